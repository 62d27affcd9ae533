"""Bonuses that need the whole step or the run's settings: reward table → [N], added to the totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.errors import ConfigError, unknown_name
from mmrl.tensors import group_deviation, group_mean, group_std, group_sum, masked_mean, masked_sum
from mmrl.types import CORRECT_AT

MAPPED = ("total", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftOverlong:
    """Penalty for nearing the longest completion L_max: 0 up to L_max − C, then linear to −1 at L_max.

    DAPO, arXiv:2503.14476 eq. 13, with L_max 20480 and C 4096. Here C is a fraction of the run's `max_tokens`, by
    default the paper's 0.2; a rollout of exactly L_max tokens gets −1, as every longer one would.
    """

    margin: float = 0.2
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        room = self.margin * context.max_tokens
        return ((context.max_tokens - room - table.length) / room).clamp(min=-1.0, max=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergencePaid:
    """−coef · Σ_t (log π_old − log π_ref): the divergence as part of the reward. RLOO, arXiv:2402.14740; TRL."""

    coef: float = 0.05
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS, Need.REF_LOGPROBS})
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        old, ref = context.streams.old_logprobs, context.streams.ref_logprobs
        assert old is not None
        assert ref is not None
        return -self.coef * masked_sum(old - ref, context.mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlikeliness:
    """−coef · rank_i · r_i: a rollout's reward shrinks the likelier the rollout was. arXiv:2506.02355.

    rank_i is the rollout's place among its group by mean token log π_old, over G: 0 for the least likely. `coef` 0.25
    is the authors' code's.
    """

    coef: float = 0.25
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        old = context.streams.old_logprobs
        assert old is not None
        likelihood = masked_mean(old, context.mask)
        same = table.group[:, None] == table.group[None, :]  # [N, N]
        rank = (same & (likelihood[None, :] < likelihood[:, None])).sum(dim=1) / same.sum(dim=1)
        return -self.coef * rank * table.total


@dataclass(frozen=True, slots=True, kw_only=True)
class ShorterWhenRight:
    """−coef · sigmoid((L_i − mean L) / std L) for correct rollouts, in groups with enough of them.

    GRPO-λ, arXiv:2505.18086: mean and std are over the group's correct rollouts; a group whose share of correct
    rollouts is below `least_correct` keeps its plain rewards. The paper's values are unconfirmed: `coef` and
    `least_correct` are our choice.
    """

    coef: float = 0.5
    least_correct: float = 0.5
    threshold: float = CORRECT_AT
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        correct = table.accuracy >= self.threshold
        length, group = table.length[correct].to(table.total.dtype), table.group[correct]
        std = group_std(length, group, table.groups)[group]
        excess = group_deviation(length, group, table.groups) / std.clamp(min=1e-6)
        bonus = torch.zeros_like(table.total)
        bonus[correct] = -self.coef * excess.sigmoid()
        share = group_mean(correct.to(table.total.dtype), table.group, table.groups)
        return torch.where(share[table.group] >= self.least_correct, bonus, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftTop:
    """Replaces each total x by a flatter one above `tau` and a steeper one below.

    tau + 0.01 · ln(x − tau + 1) for x ≥ tau, else tau − (e^{steepness·(tau − x)} − 1) / (e^{steepness} − 1).
    TempSamp-R1, arXiv:2509.18056, by the only public implementation, a third party's: tau 0.8, steepness 1. `of`
    "accuracy" maps that part of the total alone, for an accuracy reward of weight 1: other rewards are added unmapped.
    """

    tau: float = 0.8
    steepness: float = 1.0
    of: str = "total"
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        if self.of not in MAPPED:
            raise ConfigError(f"shaping.of: {unknown_name('reward', self.of, MAPPED)}")

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        reward = table.total if self.of == "total" else table.accuracy
        over = reward - self.tau
        above = self.tau + 0.01 * over.clamp(min=0.0).log1p()
        below = self.tau - torch.expm1(-self.steepness * over.clamp(max=0.0)) / torch.expm1(
            torch.tensor(self.steepness)
        )
        return torch.where(over >= 0, above, below) - reward


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinBonus:
    """`coef` for accurate rollouts of groups that do at least `ratio` as well as their twin in `view`, else 0.

        p ≥ ratio · p',  p and p' the mean accuracy of group and twin;  accurate: accuracy above `least_accuracy`

    T-GRPO, arXiv:2503.21776, by the authors' code: 0.3, 0.8 and 0.1, the twin having its frames shuffled. What answers
    as well without the order of frames did not look at it. A group without a twin gets nothing; demonstrations count
    on neither side.
    """

    view: str = "shuffled_frames"
    coef: float = 0.3
    ratio: float = 0.8
    least_accuracy: float = 0.1
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        twin = table.twins.get(self.view)
        if twin is None:
            return torch.zeros_like(table.total)
        own = table.own.to(table.total.dtype)
        count = group_sum(own, table.group, table.groups).clamp(min=1)
        mean = group_sum(table.accuracy * own, table.group, table.groups) / count
        better = mean >= self.ratio * twin  # never where the twin is NaN: there is none
        paid = better[table.group] & (table.accuracy > self.least_accuracy) & table.own
        return torch.where(paid, self.coef, 0.0)
