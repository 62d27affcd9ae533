"""Every sample once per epoch, each epoch in an order of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        self._shuffled: tuple[int, NDArray[np.int64]] | None = None  # the epoch that was asked for last

    def next(self, count: int) -> list[Sample]:
        chosen = self.peek(count)
        self._drawn += count
        return chosen

    def peek(self, count: int) -> list[Sample]:
        """What `next` would return."""
        chosen: list[Sample] = []
        while len(chosen) < count:
            epoch, place = divmod(self._drawn + len(chosen), len(self._samples))
            part = self._order(epoch)[place : place + count - len(chosen)]
            chosen += [self._samples[i] for i in part.tolist()]
        return chosen

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        self._drawn = int(state["drawn"])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The places of all samples. Kept: shuffling a million takes as long as a training step of a small model."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
        return self._shuffled[1]
