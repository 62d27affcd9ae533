"""APO's two asymmetric parts: correct and wrong rollouts are treated differently. arXiv:2506.21655.

Two meanings of "positive" are in play in the authors' code, and both are kept apart here:
    correct      the answer is right (accuracy of at least `threshold`): what difficulty and STCR ask
    favoured     the advantage is above 0: what DADS asks
They differ: a wrong but well-formatted rollout of a mostly failing group is favoured without being correct. STCR as
released then *enlarges its positive advantage*, and DADS lowers its divergence. `only_negative` and `only_correct` are
guards against that; both are off by default, as released.

Correctness comes from the explicit accuracy channel. The authors take the integer part of the reward sum, which is the
same for their 0/1 accuracy + 0/0.5 format, and silently something else for any other scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.errors import ConfigError, unknown_name
from mmrl.tensors import group_mean, group_sum
from mmrl.types import CORRECT_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class DifficultyAwareWeight:
    """DADS: favoured rollouts (A > 0) of a group of difficulty d have their divergence multiplied by w(d).

    d = share of wrong rollouts; w = 1 for d = 0 and d = 1, else 1 − e^{−e·(1 − d)} (`form: pass_rate`, what the
    authors run) or e^{−e·d} (`form: difficulty`, commented out in their file), e = 2.718….  The harder the group, the
    freer its successes. w jumps at d = 0: the limit is 0.934, the special case 1.
    """

    form: str = "pass_rate"
    threshold: float = CORRECT_AT
    only_correct: bool = False  # guard: favoured *and* correct
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        if self.form not in ("pass_rate", "difficulty"):
            raise ConfigError(f"divergence_weight.form: {unknown_name('form', self.form, ('pass_rate', 'difficulty'))}")

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        correct = table.accuracy >= self.threshold
        pass_rate = group_mean(correct.to(advantages.dtype), table.group, table.groups)
        exponent = pass_rate if self.form == "pass_rate" else 1 - pass_rate
        weight = (-math.e * exponent).exp()
        weight = 1 - weight if self.form == "pass_rate" else weight
        weight = torch.where((pass_rate == 0) | (pass_rate == 1), 1.0, weight)
        chosen = advantages > 0
        if self.only_correct:
            chosen = chosen & correct
        return torch.where(chosen, weight[table.group], 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuboptimalTrajectoryComplexity:
    """STCR: a wrong rollout longer than the group's correct ones has its advantage multiplied by 1 + ω.

    ω_i = 1 − base^{−x_i}, x_i = L_i − mean length of the group's correct rollouts, where x_i > 0; 0 for correct
    rollouts, shorter ones, and groups without a correct one. Lengths are tokens, the end token included. The authors'
    `base`, 1.00001, makes this tiny: 1000 tokens too long give a factor 1.00995.
    """

    base: float = 1.00001
    threshold: float = CORRECT_AT
    only_negative: bool = False  # guard: leave positive advantages alone
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        correct: Bool[Tensor, " N"] = table.accuracy >= self.threshold
        count = group_sum(correct.to(advantages.dtype), table.group, table.groups)
        length = table.length.to(advantages.dtype)
        usual = group_sum(length * correct, table.group, table.groups) / count.clamp(min=1)
        excess = length - usual[table.group]
        chosen = ~correct & (excess > 0) & (count[table.group] > 0)
        if self.only_negative:
            chosen = chosen & (advantages < 0)
        omega = -torch.expm1(-excess * math.log(self.base))
        return torch.where(chosen, advantages * (1 + omega), advantages)
