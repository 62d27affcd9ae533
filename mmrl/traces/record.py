"""What a trace holds: one `TraceGroup` per sample that was asked, one `Dropped` per sample that never got so far.

A `TraceRollout` contains the `Rollout` it tells of, so a stored completion can be scored again, with another reward,
exactly as it was scored while training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmrl.types import Dropped, MediaView, RewardResult, Rollout, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRollout:
    """One completion with what it earned.

    Log-probabilities, streams and seconds are stored with six significant digits, everything else as it was. A number
    that is infinite or not a number is stored as null and reads as NaN.
    """

    rollout: Rollout  # text, tokens, log-probabilities, seed, policy version
    rewards: Mapping[str, RewardResult]  # reward name → value, weight, status, details
    total: float  # Σ weight · value
    accuracy: float  # in [0, 1]
    format: float  # in [0, 1]
    advantage: float | None  # None: the group was dropped before advantages were computed
    streams: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # name → [C]: see training/traced.py


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceGroup:
    """The rollouts of one sample at one step."""

    step: int
    sample: Sample  # with its media's paths, question, choices and verifiable answer
    prompt_text: str  # the rendered chat, one placeholder per media item
    prompt_tokens: int  # length of the prompt in tokens, visual tokens included
    views: tuple[MediaView, ...]  # per media item: how the model's coordinates map to the original's, frames' times
    rollouts: tuple[TraceRollout, ...]  # in order of their index
    dropped: Dropped | None = None  # why nothing was learnt from this group; None: it was trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """All that one step asked, wrote and left out."""

    step: int
    groups: tuple[TraceGroup, ...]  # trained on first, then those dropped by a filter (`dropped` is set)
    dropped: tuple[Dropped, ...]  # samples that never became a scored group: broken media, failed rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceDrop:
    """A sample that never became a scored group, and at which step."""

    step: int
    dropped: Dropped
