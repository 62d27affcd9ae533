"""Bonuses that need the whole step or the run's settings: reward table → [N], added to the totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftOverlong:
    """Penalty for nearing the longest completion L_max: 0 up to L_max − C, then linear to −1 at L_max.

    DAPO, arXiv:2503.14476 eq. 13, with L_max 20480 and C 4096. Here C is a fraction of the run's `max_tokens`, by
    default the paper's 0.2; a rollout of exactly L_max tokens gets −1, as every longer one would.
    """

    margin: float = 0.2
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, max_tokens: int) -> Float[Tensor, " N"]:
        room = self.margin * max_tokens
        return ((max_tokens - room - table.length) / room).clamp(min=-1.0, max=0.0)
