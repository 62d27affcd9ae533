"""Weights of whole groups or rollouts: by how sure the group's answers are, by what is most telling, by the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.credit.token_weight import linear
from mmrl.errors import ConfigError, unknown_name
from mmrl.tensors import group_size, group_sum

FORMS = ("linear", "exponential")
SCHEDULES = ("v", "linear_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticEntropy:
    """A_i · f(SE), SE = −Σ p_k ln p_k over the group's clusters of equal answers. SEED-GRPO, arXiv:2505.12346.

    f = 1 − alpha · SE / ln G ("linear") or e^{−alpha · SE / ln G} ("exponential"): less update where answers scatter.
    The paper's f and alpha are unconfirmed: both are our choice.
    """

    alpha: float = 0.5
    form: str = "linear"
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"reweight.form: {unknown_name('form', self.form, FORMS)}")

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        size = group_size(table.group, table.groups)[table.group].to(advantages.dtype)
        share = torch.bincount(table.answer)[table.answer] / size
        entropy = group_sum(-share.log() / size, table.group, table.groups)[table.group]  # Σ_i −ln p / G = Σ_k −p ln p
        scaled = self.alpha * entropy / size.clamp(min=2).log()
        return advantages * (1 - scaled if self.form == "linear" else (-scaled).exp())


@dataclass(frozen=True, slots=True, kw_only=True)
class MostVaried:
    """Keeps the subset of the step's rollouts whose advantages vary most; the subset grows linearly over the run.

    D³S's sample level, arXiv:2509.22115: of all subsets of n rollouts the one with the largest variance is made of the
    lowest and the highest. n goes from `first` to `last` of the step's rollouts; the paper's shares are unconfirmed:
    these are our choice. Left-out rollouts carry no loss and count in no token total.
    """

    first: float = 0.5
    last: float = 1.0
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    follows_the_step: ClassVar[bool] = True

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        count = max(1, round(linear(self.first, self.last, context) * len(advantages)))
        by_seed = table.seed.argsort(stable=True)  # so that ties do not depend on the order of rows
        chosen = torch.zeros_like(advantages)
        chosen[by_seed] = most_varied(advantages[by_seed], count)
        return chosen


def most_varied(values: Float[Tensor, " N"], count: int) -> Float[Tensor, " N"]:
    """1 for the `count` values of largest variance, else 0: k from the low end and count − k from the high end."""
    order = values.argsort(stable=True)
    ordered = values[order].double()
    ordered = ordered - ordered.mean()
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    squares = torch.cat([ordered.new_zeros(1), (ordered**2).cumsum(0)])
    low = torch.arange(count + 1)
    high = len(values) - (count - low)  # where the high end begins
    total, square = sums[low] + sums[-1] - sums[high], squares[low] + squares[-1] - squares[high]
    best = int((square / count - (total / count) ** 2).argmax())
    chosen = torch.zeros_like(values)
    chosen[order[:best]] = 1.0
    chosen[order[len(values) - (count - best) :]] = 1.0
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledWeight:
    """The divergence's coefficient by step: GRPO-D, arXiv:2503.16081 v2 eq. 1–5. Use with `coef: 1`.

    w = `exploration` · t:   from (low + high)/2 at step 0 down to `low` at w, then up to `high` at the last step t.
    The paper's prose says the weight starts small and grows; its formula is that V (`schedule: v`). `linear_up` goes
    from `low` to `high` straight. low/high are 0.04/0.1 for the paper's counting task, 0/0.02 for geometry.
    """

    low: float = 0.04
    high: float = 0.1
    exploration: float = 0.3
    schedule: str = "v"
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    follows_the_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"divergence_weight.schedule: {unknown_name('schedule', self.schedule, SCHEDULES)}")

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        return torch.full_like(advantages, self.coefficient(context.step, context.steps))

    def coefficient(self, step: int, steps: int) -> float:
        """β at `step` (from 0) of `steps`."""
        if self.schedule == "linear_up":
            return self.low + (self.high - self.low) * step / steps
        turn = self.exploration * steps
        middle = (self.low + self.high) / 2
        if step <= turn:
            return middle - (middle - self.low) * step / turn if turn else self.low
        return self.low + (self.high - self.low) * (step - turn) / (steps - turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemonstrations:
    """1 for demonstrations, 0 for the policy's own rollouts: the divergence holds on what others wrote. DPH-RL."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        return (~table.own).to(advantages.dtype)
