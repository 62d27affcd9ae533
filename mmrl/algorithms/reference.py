"""Which policy the divergence is measured against, and how it moves while the policy trains.

A reference is a rule over *copies* of the policy's parameters, kept by the backend as named lists that run parallel to
the policy's own: "reference" is the policy that gives `ref_logprobs`, in the policy's number format; all others are
float32. "precise" is the reference in float32 (the very same tensors where it is float32 already). `after_update` runs
after every optimiser update, changes copies (or the policy) in place, element by element, so that a shard of a
parameter can be treated like the whole. Copies are in checkpoints: a resumed run continues exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from mmrl.errors import ConfigError

REFERENCE = "reference"
PRECISE = "precise"
AVERAGE = "average"

Parameters = Sequence[Tensor]


class Reference(Protocol):
    """A rule for the reference policy."""

    copies: ClassVar[tuple[str, ...]]  # which copies the backend has to keep; all start as the policy
    moves_policy: ClassVar[bool]  # whether it acts although no part asks for `ref_logprobs`

    def acts_after(self, update: int) -> bool:
        """Whether `after_update` would change anything after that update."""
        ...

    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        """Called after optimiser update number `update` (from 1) of the stage."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReference:
    """No reference policy: a part that asks for `ref_logprobs` is a config error."""

    copies: ClassVar[tuple[str, ...]] = ()
    moves_policy: ClassVar[bool] = False

    def acts_after(self, update: int) -> bool:
        return False

    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenReference:
    """The policy as it was when the RL stage began. Loaded only when a part asks for `ref_logprobs`."""

    copies: ClassVar[tuple[str, ...]] = (REFERENCE,)
    moves_policy: ClassVar[bool] = False

    def acts_after(self, update: int) -> bool:
        return False

    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOff:
    """The policy with its adapters switched off: what it was when the RL stage began, without a copy of anything.

    Needs `train.lora`. A frozen reference becomes this one by itself where there are adapters: the two are equal.
    """

    copies: ClassVar[tuple[str, ...]] = ()
    moves_policy: ClassVar[bool] = False

    def acts_after(self, update: int) -> bool:
        return False

    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmaReference:
    """After every `every`-th update φ ← decay·φ + (1 − decay)·θ, on every parameter.

    GRPO-CARE, arXiv:2506.16141: 0.995, every 10 (half-life 1380 updates). WARP's anchor, arXiv:2406.16768: 0.99, every
    update (the value is unconfirmed).

    The average is kept in float32 and rounded into the reference. In bfloat16 itself, where numbers lie 0.4 to 0.8 per
    cent apart, a step of half a per cent of a small difference would be rounded away every time.
    """

    decay: float = 0.995
    every: int = 10
    copies: ClassVar[tuple[str, ...]] = (REFERENCE, PRECISE)
    moves_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_every(self.every)

    def acts_after(self, update: int) -> bool:
        return update % self.every == 0

    @torch.no_grad()
    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        if self.acts_after(update):
            _follow(copies[PRECISE], policy, self.decay)
            _assign(copies[REFERENCE], copies[PRECISE])


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicReference:
    """After every `every`-th update the reference becomes the policy: φ ← θ. `every` is a choice of the run."""

    every: int = 100
    copies: ClassVar[tuple[str, ...]] = (REFERENCE,)
    moves_policy: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_every(self.every)

    def acts_after(self, update: int) -> bool:
        return update % self.every == 0

    @torch.no_grad()
    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        if self.acts_after(update):
            _assign(copies[REFERENCE], policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticReset:
    """The *policy* falls back: every update EMA ← decay·EMA + (1 − decay)·θ; every `every`-th θ ← EMA, EMA ← start.

    Elastic Reset, arXiv:2312.07551: decay 0.995; every 260 in the authors' StackLLaMA run. The divergence is measured
    against the start. Only trainable parameters differ between the three; the optimiser's state is kept.
    """

    decay: float = 0.995
    every: int = 260
    copies: ClassVar[tuple[str, ...]] = (REFERENCE, AVERAGE)
    moves_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_every(self.every)

    def acts_after(self, update: int) -> bool:
        return True

    @torch.no_grad()
    def after_update(self, update: int, policy: Parameters, copies: Mapping[str, Parameters]) -> None:
        _follow(copies[AVERAGE], policy, self.decay)
        if update % self.every == 0:
            _assign(policy, copies[AVERAGE])
            _assign(copies[AVERAGE], copies[REFERENCE])


def _follow(slow: Parameters, fast: Parameters, decay: float) -> None:
    for mine, other in zip(slow, fast, strict=True):
        mine.lerp_(other.to(mine.dtype), 1 - decay)


def _assign(to: Parameters, values: Parameters) -> None:
    for mine, other in zip(to, values, strict=True):
        if mine is not other:
            mine.copy_(other)


def _check_every(every: int) -> None:
    if every < 1:
        raise ConfigError(f"algorithm.reference.every: expected a number of updates of at least 1, got {every}.")
