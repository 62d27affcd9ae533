"""The edge between data and loop: who is asked next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from mmrl.types import Sample, ScoredGroup


class PromptSampler(Protocol):
    """Chooses samples and may learn from their scores. Implementations: `catalog.py`."""

    def next(self, count: int) -> list[Sample]:
        """The next `count` samples."""
        ...

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        """What became of samples that were asked."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON values from which `load_state` continues exactly."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class BudgetSampler(PromptSampler, Protocol):
    """A sampler that also says how a step's rollouts are shared among its samples. Implementation: knapsack."""

    def group_sizes(self, samples: Sequence[Sample], budget: int) -> list[int]:
        """Rollouts per sample, each at least 1; they sum to `budget`."""
        ...
