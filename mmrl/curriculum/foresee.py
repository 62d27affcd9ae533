"""Which samples a sampler would hand out next, without asking it to: a hint for preparing their media ahead."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mmrl.curriculum.sampler import PromptSampler
from mmrl.types import Sample


@runtime_checkable
class Foreseeing(Protocol):
    """A sampler that says so itself, more cheaply than by being asked and set back. Implementation: shuffled."""

    def peek(self, count: int) -> list[Sample]:
        """What `next(count)` would return now. Changes nothing."""
        ...


def foresee(sampler: PromptSampler, count: int) -> list[Sample]:
    """What `sampler.next(count)` would return now; the sampler is left as it was.

    Only a hint: a sampler that learns may choose others once it has seen the scores of what is under way.
    """
    if isinstance(sampler, Foreseeing):
        return sampler.peek(count)
    state = sampler.state()
    try:
        return sampler.next(count)
    finally:
        sampler.load_state(state)
