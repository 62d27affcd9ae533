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
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        ratio = log_ratio.exp()
        free = ratio * advantages
        bound = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high) * advantages
        return torch.minimum(free, bound), bound < free


@dataclass(frozen=True, slots=True, kw_only=True)
class DualClipped:
    """As `Clipped`, and for A < 0 never below `most`·A. Dual-clip PPO, arXiv:1912.09729 eq. 5.

    Without it a negative advantage times a ratio that ran away is an unbounded loss. `most` 3 in verl and EasyR1, 10 in
    SPO's code.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    most: float = 3.0
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        once = Clipped(clip_low=self.clip_low, clip_high=self.clip_high)
        objective, clipped = once(log_ratio, advantages, logprobs)
        floor = self.most * advantages
        below = (advantages < 0) & (objective < floor)
        return torch.where(below, floor, objective), clipped | below


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclipped:
    """ρA: no bound at all. KL-Cov, arXiv:2505.22617; GTPO, arXiv:2508.03772."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        return log_ratio.exp() * advantages, torch.zeros_like(log_ratio, dtype=torch.bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class CappedWeight:
    """sg[clip(ρ, 1 − clip_low, 1 + clip_high)]·A·log π. CISPO, arXiv:2506.13585.

    Every token keeps its gradient; only its weight is bounded, and it counts as clipped where the bound acts. A
    `clip_low` of 1 is no lower bound.
    """

    clip_low: float = 1.0
    clip_high: float = 4.0
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    stops_gradients: ClassVar[bool] = True

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        ratio = log_ratio.detach().exp()
        weight = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high)
        return weight * advantages * logprobs, weight != ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSurrogate:
    """0: the policy learns from couplings and regularizers alone."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        return torch.zeros_like(logprobs), torch.zeros_like(logprobs, dtype=torch.bool)
