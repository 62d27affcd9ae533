"""Every sample once per epoch, each epoch in an order of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmrl.errors import DataError
from mmrl.types import Sample, ScoredGroup


class Shuffled:
    """Epoch e is shuffled by (seed, e). A batch may span two epochs; nothing is left over or skipped."""

    def __init__(self, samples: Sequence[Sample], *, seed: int) -> None:
        if not samples:
            raise DataError("the training manifest holds no samples; there is nothing to train on.")
        self._samples = list(samples)
        self._seed = seed
        self._drawn = 0  # samples handed out since the start

    def next(self, count: int) -> list[Sample]:
        chosen = self.peek(count)
        self._drawn += count
        return chosen

    def peek(self, count: int) -> list[Sample]:
        """What `next` would return."""
        return [self._at(self._drawn + i) for i in range(count)]

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        self._drawn = int(state["drawn"])

    def _at(self, n: int) -> Sample:
        epoch, place = divmod(n, len(self._samples))
        return self._samples[self._order(epoch)[place]]

    def _order(self, epoch: int) -> list[int]:
        order: list[int] = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples)).tolist()
        return order
