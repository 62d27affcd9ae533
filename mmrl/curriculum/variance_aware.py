"""MMR1's variance-aware sampling (VAS), arXiv:2509.21268."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmrl.curriculum.outcomes import distinct_trigrams, draw, known_pass_rate, pass_rate, sample_id, some_samples
from mmrl.curriculum.shuffled import Shuffled
from mmrl.types import Sample, ScoredGroup

UNSEEN = 0.25  # p(1 − p) of a sample nobody knows anything about: the highest there is


class VarianceAware:
    """floor(share · count) samples by weight, the others shuffled.

        weight = outcome · p(1 − p) + diversity · distinct-3,  min–max normalised over the data; p the last pass rate

    The released configuration has outcome 1 and diversity 0, share 0.5 (the paper's 0.8 and 0.2 are unconfirmed). It
    re-estimates all samples every few steps in a pass of its own; here p is what the last group of the sample showed,
    or `metadata.pass_rate`, or unknown and then of the highest variance. Normalising leaves the lowest weight at 0:
    such samples come by the shuffled half only. Draws of one call are distinct.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        seed: int,
        share: float = 0.5,
        outcome: float = 1.0,
        diversity: float = 0.0,
    ) -> None:
        self._samples = some_samples(samples)
        self._seed, self._share, self._outcome, self._diversity = seed, share, outcome, diversity
        self._pool = Shuffled(self._samples, seed=seed)
        self._calls = 0
        self._seen: dict[str, tuple[float, float]] = {}  # sample id → (p(1 − p), distinct-3)
        for sample in self._samples:
            rate = known_pass_rate(sample)
            if rate is not None:
                self._seen[sample.id] = (rate * (1 - rate), 0.0)

    def next(self, count: int) -> list[Sample]:
        chosen = [
            self._samples[i]
            for i in draw(self.weights(), math.floor(self._share * count), seed=[self._seed, 1, self._calls])
        ]
        self._calls += 1
        taken = {sample.id for sample in chosen}
        tries = 0
        while len(chosen) < count and tries < 2 * len(self._samples):
            (sample,) = self._pool.next(1)
            tries += 1
            if sample.id not in taken:
                taken.add(sample.id)
                chosen.append(sample)
        return chosen

    def weights(self) -> list[float]:
        """Per sample, min–max normalised; all equal where all samples look alike."""
        raw = []
        for sample in self._samples:
            variance, variety = self._seen.get(sample.id, (UNSEEN, 0.0))
            raw.append(self._outcome * variance + self._diversity * variety)
        low, high = min(raw), max(raw)
        return [(value - low) / (high - low) if high > low else 1.0 for value in raw]

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        for group in scored:
            rate = pass_rate(group)
            self._seen[sample_id(group)] = (rate * (1 - rate), distinct_trigrams(group))

    def state(self) -> dict[str, Any]:
        return {
            "pool": self._pool.state(),
            "calls": self._calls,
            "seen": {id_: list(values) for id_, values in self._seen.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._pool.load_state(state["pool"])
        self._calls = int(state["calls"])
        self._seen = {id_: (float(a), float(b)) for id_, (a, b) in state["seen"].items()}
