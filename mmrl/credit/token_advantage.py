"""From a rollout's advantage to its tokens' advantages: [N] → [N, T]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext


@dataclass(frozen=True, slots=True, kw_only=True)
class PerRollout:
    """Every token gets its rollout's advantage."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        return advantages[:, None].expand(context.mask.shape).clone()


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitened:
    """A_t = (A_i − mean) / √(var + eps) over all tokens of the step, var with n − 1.

    REINFORCE++'s baseline form, arXiv:2501.03262, as in verl (`eps` 1e-8): long rollouts count for more in the mean.
    """

    eps: float = 1e-8
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        return whitened(advantages[:, None].expand(context.mask.shape), context.mask, self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class PenalizedReturns:
    """A_t = whitened R_t, R_t = Σ_{k ≥ t} gamma^(k − t) reward_k: the divergence is paid as a reward per token.

    reward_k = −coef · (log π_old − log π_ref) at every token, plus the rollout's own at its last. REINFORCE++,
    arXiv:2501.03262, as in verl (gamma 1, eps 1e-8). The paper's `coef` is unconfirmed: 0.01 is our choice.
    """

    coef: float = 0.01
    gamma: float = 1.0
    eps: float = 1e-8
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS, Need.REF_LOGPROBS})
    separates_equal_rewards: ClassVar[bool] = True  # tokens differ by their distance to the reference

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        old, ref = context.streams.old_logprobs, context.streams.ref_logprobs
        assert old is not None
        assert ref is not None
        rewards = torch.where(context.mask, -self.coef * (old - ref), 0.0)
        rewards[torch.arange(len(rewards)), table.length - 1] += advantages
        returns = torch.zeros_like(rewards)
        ahead = torch.zeros_like(rewards[:, 0])
        for t in reversed(range(rewards.shape[1])):
            ahead = rewards[:, t] + self.gamma * ahead
            returns[:, t] = ahead
        return whitened(returns, context.mask, self.eps)


def whitened(values: Float[Tensor, "N T"], mask: Bool[Tensor, "N T"], eps: float) -> Float[Tensor, "N T"]:
    """(x − mean) / √(var + eps) over the masked values, var with n − 1; 0 outside the mask.

    Works on differences to the first value, so that equal values give exactly 0.
    """
    count = int(mask.sum())
    if count == 0:
        return torch.zeros_like(values)
    shifted = torch.where(mask, values - values[mask][0], 0.0)
    centred = torch.where(mask, shifted - shifted.sum() / count, 0.0)
    variance = (centred**2).sum() / max(count - 1, 1)
    return centred / (variance + eps).sqrt()
