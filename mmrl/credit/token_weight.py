"""Which tokens count, chosen once per step by the policy as it was at the step's start.

Released codes choose per micro-batch, so that the choice depends on the micro-batch size; here it is over all tokens of
the step. Before the first update of a step the two see the same policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.tensors import masked_quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class HighEntropy:
    """1 for tokens whose entropy is at least the (1 − fraction)-quantile over the step, else 0.

    "Beyond the 80/20 rule", arXiv:2506.01939: fraction 0.2. The denominator stays all tokens, as in TRL.
    """

    fraction: float = 0.2
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ENTROPY})

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        entropy = context.streams.entropy
        assert entropy is not None
        least = masked_quantile(entropy, context.mask, 1 - self.fraction)
        return (context.mask & (entropy >= least)).to(advantages.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCovariance:
    """0 for a few tokens drawn among those whose covariance is within (low, high), else 1. Clip-Cov, arXiv:2505.22617.

    cov_t = (A_t − mean A)(log π_t − mean log π) over the step's tokens; max(1, int(fraction · tokens)) of them are
    drawn at random, each token's lot from its rollout's own seed. fraction 2e-4, low 1, high 5 are the authors'.
    """

    fraction: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        cov = covariance(advantages, context)
        candidates = context.mask & (cov > self.low) & (cov < self.high)
        count = max(1, int(self.fraction * int(context.mask.sum())))
        lots = torch.stack([_lots(int(seed), cov.shape[1]) for seed in table.seed])
        return 1 - _highest(lots, candidates, count).to(advantages.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class HighestCovariance:
    """1 for the max(1, int(fraction · tokens)) tokens of highest covariance, else 0. KL-Cov, arXiv:2505.22617.

    `fraction` is 2e-3 in the authors' 7B recipe and 2e-4 in the 32B one (their scripts write 0.2 and 0.02 per cent).
    """

    fraction: float = 2e-3
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        count = max(1, int(self.fraction * int(context.mask.sum())))
        return _highest(covariance(advantages, context), context.mask, count).to(advantages.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class MostInformative:
    """1 for the share of tokens with the largest |A_t| · entropy, else 0; the share grows linearly over the run.

    D³S's token level, arXiv:2509.22115: from `first` at the first step to `last` at the last. The paper's shares are
    unconfirmed: these are our choice.
    """

    first: float = 0.5
    last: float = 1.0
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ENTROPY})
    follows_the_step: ClassVar[bool] = True

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        entropy = context.streams.entropy
        assert entropy is not None
        share = linear(self.first, self.last, context)
        count = max(1, round(share * int(context.mask.sum())))
        return _highest(advantages.abs() * entropy, context.mask, count).to(advantages.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisagreementWeight:
    """w_t = 1 + (alpha − 1) · (k_t − min k) / (max k − min k + 1e-8), over the group's positions. TW-GRPO.

    k_t is how much the group's next-token distributions differ at position t (`policy/disagreement.py`). All rollouts
    of a group share their weights, from 1 where they agree most to alpha where they differ most. alpha 1.7 in the
    script of arXiv:2505.24718, 1.4 by default in its code.
    """

    alpha: float = 1.7
    needs: ClassVar[frozenset[Need]] = frozenset({Need.DISAGREEMENT})

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]:
        differ = context.streams.disagreement
        assert differ is not None
        tokens = table.token_ids >= 0
        infinite = torch.full_like(differ[:, 0], torch.inf)
        low = _per_group(torch.where(tokens, differ, torch.inf).amin(dim=1), table, "amin", infinite)
        high = _per_group(torch.where(tokens, differ, -torch.inf).amax(dim=1), table, "amax", -infinite)
        share = (differ - low[:, None]) / (high - low + 1e-8)[:, None]
        return torch.where(tokens, 1 + (self.alpha - 1) * share, 1.0)


def covariance(advantages: Float[Tensor, "N T"], context: StepContext) -> Float[Tensor, "N T"]:
    """(A_t − mean A)(log π_t − mean log π), means over the step's loss tokens."""
    old = context.streams.old_logprobs
    assert old is not None
    count = context.mask.sum().clamp(min=1)
    return (advantages - _total(advantages, context.mask) / count) * (old - _total(old, context.mask) / count)


def linear(first: float, last: float, context: StepContext) -> float:
    """From `first` at the first step of the run to `last` at its last."""
    return first + (last - first) * context.step / max(context.steps - 1, 1)


def _per_group(
    values: Float[Tensor, " N"], table: RewardTable, reduce: str, start: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    return start.scatter_reduce(0, table.group, values, reduce)[table.group]


def _total(values: Float[Tensor, "N T"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, ""]:
    return torch.where(mask, values, 0.0).sum()


def _highest(values: Float[Tensor, "N T"], among: Bool[Tensor, "N T"], count: int) -> Bool[Tensor, "N T"]:
    chosen = torch.zeros_like(among)
    places = among.nonzero()
    best = values[among].topk(min(count, len(places))).indices
    chosen[tuple(places[best].T)] = True
    return chosen


def _lots(seed: int, width: int) -> Float[Tensor, " T"]:
    return torch.rand(width, generator=torch.Generator().manual_seed(seed))
