"""How much a group's next-token distributions differ at each position: TW-GRPO's token importance. arXiv:2505.24718.

Positions are counted from the beginning of each completion, whatever stands there. The full distributions of a group,
[G, T, V], never exist at once: positions are compared chunk by chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CLAMP = 11.0  # the authors' code bounds log-ratios to ±11 before the exponential


def disagreement(log_probs: Float[Tensor, "G T V"]) -> Float[Tensor, " T"]:
    """mean_i Σ_v [e^D − D − 1], D = (mean over the group of log P) − log P_i, bounded: 0 where all agree."""
    d = (log_probs.mean(dim=0, keepdim=True) - log_probs).clamp(-CLAMP, CLAMP)
    return (torch.expm1(d) - d).sum(dim=-1).mean(dim=0)


def group_disagreement(
    hidden: Float[Tensor, "M D"],
    mask: Bool[Tensor, "B T"],
    group: Int[Tensor, " B"],
    logits: Callable[[Float[Tensor, "M D"]], Float[Tensor, "M V"]],
    *,
    chunk: int,
    comparisons: int = 0,
) -> Float[Tensor, "B T"]:
    """`disagreement` at every completion token, the same for all rollouts of a group; 0 outside the mask.

    `hidden` are the states that predict the masked tokens, in their order; `group` says which rows are compared with
    each other, and must hold each group whole. A rollout that has ended counts as uniform.
    `logits` is called at least `comparisons` times, at the end without any states.
    """
    done = 0
    states = hidden.new_zeros(*mask.shape, hidden.shape[-1])
    states[mask] = hidden
    out = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
    for g in group.unique():
        rows = (group == g).nonzero().squeeze(1)
        longest = int(mask[rows].sum(dim=1).max())
        width = max(1, chunk // len(rows))
        for start in range(0, longest, width):
            stop = min(start + width, longest)
            flat = logits(states[rows, start:stop].flatten(0, 1))
            done += 1
            log_probs = flat.log_softmax(dim=-1).view(len(rows), stop - start, -1)
            ended = ~mask[rows, start:stop, None]
            log_probs = log_probs.masked_fill(ended, -math.log(log_probs.shape[-1]))
            out[rows, start:stop] = disagreement(log_probs)[None, :]
    for _ in range(done, comparisons):
        logits(hidden[:0])
    return out.masked_fill(~mask, 0.0)


def count_comparisons(mask: Bool[Tensor, "B T"], group: Int[Tensor, " B"], *, chunk: int) -> int:
    """How often `group_disagreement` calls `logits` of itself."""
    count = 0
    for g in group.unique():
        rows = (group == g).nonzero().squeeze(1)
        count += math.ceil(int(mask[rows].sum(dim=1).max()) / max(1, chunk // len(rows)))
    return count
