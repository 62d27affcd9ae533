"""GTPO's parts: tokens that right and wrong rollouts share, and rollouts that are too uncertain. arXiv:2508.03772."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.errors import ConfigError, unknown_name
from mmrl.tensors import group_deviation, group_size, masked_mean

COUNTS = ("union", "released")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictTokens:
    """Weights of tokens that better and worse rollouts of a group begin or end with alike.

    A token is a forward conflict if at its place some rollout above the group's mean and some below it both have it,
    and all earlier places are conflicts too; a backward conflict, the same counted from the end. On each kind, rollouts
    above the mean weigh `favoured` (2), those below `disfavoured` (0), and the two multiply. The row is divided by
    max(1, its number of conflict tokens): `count` "union" counts a token once; "released" is the authors' code, which
    ORs the forward marks with backward marks that are still in reversed order.
    """

    favoured: float = 2.0
    disfavoured: float = 0.0
    count: str = "union"
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        if self.count not in COUNTS:
            raise ConfigError(f"token_weights.count: {unknown_name('count', self.count, COUNTS)}")

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        sign = group_deviation(table.total, table.group, table.groups).sign()
        weights = torch.ones_like(advantages)
        for group in range(table.groups):
            rows = (table.group == group).nonzero().squeeze(1)
            weights[rows] = self._of_group(table.token_ids[rows], table.length[rows], sign[rows]).to(weights.dtype)
        return weights

    def _of_group(
        self, ids: Int[Tensor, "G T"], length: Int[Tensor, " G"], sign: Float[Tensor, " G"]
    ) -> Float[Tensor, "G T"]:
        forward = leading_conflicts(ids, sign)
        places = torch.arange(ids.shape[1])[None, :]
        mirror = (length[:, None] - 1 - places).clamp(min=0)  # its own inverse on a row's tokens
        inside = places < length[:, None]
        reversed_marks = leading_conflicts(torch.where(inside, ids.gather(1, mirror), -1), sign)
        backward = reversed_marks.gather(1, mirror) & inside
        factor = torch.where(sign > 0, self.favoured, self.disfavoured)[:, None]
        weights = torch.where(forward, factor, 1.0) * torch.where(backward, factor, 1.0)
        marked = forward | (backward if self.count == "union" else reversed_marks)
        return weights / marked.sum(dim=1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyCost:
    """A_i ← A_i − coef · H_i, and 0 where H_i > `highest`; times the group's size. H_i: mean token entropy, nats.

    coef 0.1 and highest 0.7 are the authors' code's (the text says ln 2). The group's loss is a *sum* over its rollouts
    there; the factor G makes our mean one. A rollout without any advantage is trained on its entropy alone.
    """

    coef: float = 0.1
    highest: float = 0.7
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ENTROPY})
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        assert context.streams.entropy is not None
        entropy = masked_mean(context.streams.entropy, context.mask).to(advantages.dtype)
        size = group_size(table.group, table.groups)[table.group]
        return torch.where(entropy <= self.highest, advantages - self.coef * entropy, 0.0) * size


def leading_conflicts(ids: Int[Tensor, "G T"], sign: Float[Tensor, " G"]) -> Bool[Tensor, "G T"]:
    """Per rollout the length of its leading run of conflicts, as marks. −1 is no token."""
    same = (ids[:, None, :] == ids[None, :, :]) & (ids[:, None, :] >= 0)  # [G, G, T]
    with_better = (same & (sign > 0)[None, :, None]).any(dim=1)
    with_worse = (same & (sign < 0)[None, :, None]).any(dim=1)
    active = (sign != 0)[:, None]
    return (with_better & with_worse & active).long().cumprod(dim=1).bool()
