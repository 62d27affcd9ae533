"""Surrogates: what is maximised per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """min(ρA, clip(ρ, 1 − clip_low, 1 + clip_high)·A). PPO, arXiv:1707.06347 eq. 7.

    `clip_low` and `clip_high` are offsets from 1; equal in PPO and GRPO (0.2), apart in DAPO (0.2, 0.28). A token
    counts as clipped when the bound is the smaller term: it then has no gradient.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        ratio = log_ratio.exp()
        free = ratio * advantages
        bound = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high) * advantages
        return torch.minimum(free, bound), bound < free
