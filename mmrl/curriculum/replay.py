"""Hard samples come back sooner than their turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmrl.curriculum.outcomes import pass_rate, sample_id, some_samples
from mmrl.curriculum.shuffled import Shuffled
from mmrl.types import Sample, ScoredGroup


class HardReplay:
    """floor(share · count) samples from a queue of hard ones, the longest waiting first; the others shuffled.

    A sample joins the queue when its group's pass rate is at most `hard`, and leaves it when asked: it joins again only
    if it is still hard. `never_solved: false` keeps samples without any correct rollout out: they have no signal for
    group-relative learners. The queue holds `capacity` samples; the oldest fall out. A design of ours.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        seed: int,
        share: float = 0.25,
        hard: float = 0.5,
        never_solved: bool = False,
        capacity: int = 4096,
    ) -> None:
        self._samples = {sample.id: sample for sample in some_samples(samples)}
        self._share, self._hard, self._never_solved, self._capacity = share, hard, never_solved, capacity
        self._pool = Shuffled(list(self._samples.values()), seed=seed)
        self._queue: list[str] = []

    def next(self, count: int) -> list[Sample]:
        again, self._queue = self._split(math.floor(self._share * count))
        chosen = {id_: self._samples[id_] for id_ in again}
        tries = 0
        while len(chosen) < count and tries < 2 * len(self._samples):
            (sample,) = self._pool.next(1)
            tries += 1
            chosen.setdefault(sample.id, sample)
        return list(chosen.values())

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        for group in scored:
            rate, id_ = pass_rate(group), sample_id(group)
            if id_ in self._queue:
                self._queue.remove(id_)
            if rate <= self._hard and (rate > 0 or self._never_solved):
                self._queue.append(id_)
        self._queue = self._queue[-self._capacity :]

    def state(self) -> dict[str, Any]:
        return {"pool": self._pool.state(), "queue": list(self._queue)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._pool.load_state(state["pool"])
        self._queue = list(state["queue"])

    def _split(self, count: int) -> tuple[list[str], list[str]]:
        return self._queue[:count], self._queue[count:]
