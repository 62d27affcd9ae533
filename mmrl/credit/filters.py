"""What is left out before credit is given: whole groups (with a reason), or the loss of single rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.types import ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedCorrectness:
    """Keeps groups with at least one correct and one wrong rollout; correct means accuracy above `threshold`.

    DAPO's dynamic sampling, arXiv:2503.14476 eq. 11 (0 < number correct < G). The loop then asks for more groups, up to
    `rollout.max_refills` times.
    """

    threshold: float = 0.5
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, group: ScoredGroup) -> str | None:
        correct = sum(a > self.threshold for a in group.accuracy)
        if correct == 0:
            return "all wrong"
        return "all correct" if correct == len(group.accuracy) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTruncated:
    """Rollouts cut at max_tokens carry no loss. DAPO's overlong filtering, arXiv:2503.14476 §3.4."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]:
        return (~table.truncated).float()
