"""Advantages without a baseline made of other rollouts: a reward means something by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.types import CORRECT_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardItself:
    """A_i = r_i. For estimators that centre later, over tokens (REINFORCE++, arXiv:2501.03262)."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        return table.total


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCorrectness:
    """A_i = `right` for a correct rollout, −`wrong` for another; correct means accuracy of at least `threshold`.

    arXiv:2506.01347 (RLVR decomposed): positive sample reinforcement (1, 0), negative (0, 1), weighted (0.1, 1).
    """

    right: float = 0.1
    wrong: float = 1.0
    threshold: float = CORRECT_AT
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    separates_equal_rewards: ClassVar[bool] = True

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        correct = (table.accuracy >= self.threshold).to(table.total.dtype)
        return self.right * correct - self.wrong * (1 - correct)
