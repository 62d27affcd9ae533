"""What is left out before credit is given: whole groups (with a reason), or the loss of single rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.types import CORRECT_AT, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedCorrectness:
    """Keeps groups with at least one correct and one wrong rollout; correct means accuracy of at least `threshold`.

    DAPO's dynamic sampling, arXiv:2503.14476 eq. 11 (0 < number correct < G). The loop then asks for more groups, up to
    `rollout.max_refills` times.
    """

    threshold: float = CORRECT_AT
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, group: ScoredGroup) -> str | None:
        correct = sum(a >= self.threshold for a in group.accuracy)
        if correct == 0:
            return "all wrong"
        return "all correct" if correct == len(group.accuracy) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SomeWrong:
    """Drops groups that are all correct and keeps all others, all-wrong ones included. NGRPO, arXiv:2509.18851."""

    threshold: float = CORRECT_AT
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, group: ScoredGroup) -> str | None:
        return "all correct" if all(a >= self.threshold for a in group.accuracy) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRateWithin:
    """Keeps groups whose mean accuracy is in [low, high].

    The rule of balanced online difficulty filtering, arXiv:2504.03380; its best bounds, 0.25 and 0.75, are unconfirmed.
    """

    low: float = 0.25
    high: float = 0.75
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, group: ScoredGroup) -> str | None:
        rate = sum(group.accuracy) / len(group.accuracy)
        if rate < self.low:
            return "too hard"
        return "too easy" if rate > self.high else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTruncated:
    """Rollouts cut at max_tokens carry no loss. DAPO's overlong filtering, arXiv:2503.14476 §3.4."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]:
        return (~table.truncated).to(advantages.dtype)
