"""Masked and grouped reductions: the only place where a mean is taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def masked_sum(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Sum over tokens. Values outside the mask may be anything, NaN included."""
    return torch.where(mask, values, torch.zeros_like(values)).sum(dim=-1)


def masked_mean(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Mean over each row's own tokens; 0 for a row without any."""
    return masked_sum(values, mask) / mask.sum(dim=-1).clamp(min=1)


def group_sum(values: Float[Tensor, " N"], group: Int[Tensor, " N"], groups: int) -> Float[Tensor, " K"]:
    """Sum per group, K = `groups`."""
    return torch.zeros(groups, dtype=values.dtype, device=values.device).index_add_(0, group, values)


def group_size(group: Int[Tensor, " N"], groups: int) -> Int[Tensor, " K"]:
    """Number of rollouts per group."""
    return torch.bincount(group, minlength=groups)


def group_mean(values: Float[Tensor, " N"], group: Int[Tensor, " N"], groups: int) -> Float[Tensor, " K"]:
    """Mean per group."""
    return group_sum(values, group, groups) / group_size(group, groups)


def group_deviation(values: Float[Tensor, " N"], group: Int[Tensor, " N"], groups: int) -> Float[Tensor, " N"]:
    """Each value minus the mean of its group; exactly 0 when all values of a group are equal.

    Works on differences to the group's first member, so that rounding in the mean cannot turn "no signal" into a small
    signal that a division by a tiny spread then blows up.
    """
    first = torch.full((groups,), len(group), dtype=torch.long, device=group.device)
    first = first.scatter_reduce(0, group, torch.arange(len(group), device=group.device), "amin")
    if len(group) == 0:
        return values
    first = first.clamp(max=len(group) - 1)  # groups without members have no first; nothing asks for theirs
    shifted = values - values[first][group]
    return shifted - group_mean(shifted, group, groups)[group]


def group_std(values: Float[Tensor, " N"], group: Int[Tensor, " N"], groups: int) -> Float[Tensor, " K"]:
    """Sample standard deviation per group (divides by G − 1); 0 for a group of one."""
    squares = group_sum(group_deviation(values, group, groups) ** 2, group, groups)
    return (squares / (group_size(group, groups) - 1).clamp(min=1)).sqrt()


def pad_rows(rows: Sequence[Sequence[float]], width: int, fill: float = 0.0) -> Float[Tensor, "B T"]:
    """Ragged rows to a [B, width] float tensor, padded on the right."""
    out = torch.full((len(rows), width), fill, dtype=torch.float32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.float32)
    return out


def masked_quantile(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], q: float) -> float:
    """The q-quantile over all masked values, interpolated linearly; 0 where there are none.

    By sorting: torch.quantile refuses more than 2²⁴ values.
    """
    ordered = values[mask].sort().values
    if len(ordered) == 0:
        return 0.0
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))
