"""Samples the policy is least sure of, by weight: the sampler of SPO, arXiv:2509.13232."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmrl.curriculum.outcomes import draw, known_pass_rate, pass_rate, sample_id, some_samples
from mmrl.types import Sample, ScoredGroup


class Uncertain:
    """Drawn by weight √(v(1 − v)) + floor, v the sample's tracked pass rate; draws of one call are distinct.

    v = a/(a + b); a ← keep·a + r, b ← keep·b + (1 − r) after each group. The floor 0.05 is the authors' code's, so that
    no sample is ever out of reach. They take v from the learner's tracker, which forgets by how far the policy moved; a
    sampler sees no policy and forgets at a constant pace, `keep` 0.96, the slowest of theirs.
    """

    def __init__(
        self, samples: Sequence[Sample], *, seed: int, floor: float = 0.05, keep: float = 0.96, weight: float = 8.0
    ) -> None:
        self._samples = some_samples(samples)
        self._seed, self._floor, self._keep = seed, floor, keep
        self._calls = 0
        rates = {s.id: known_pass_rate(s) for s in self._samples}
        self._counts = {
            id_: (weight * (0.5 if rate is None else rate), weight * (0.5 if rate is None else 1 - rate))
            for id_, rate in rates.items()
        }

    def next(self, count: int) -> list[Sample]:
        weights = [self.weight(sample.id) for sample in self._samples]
        chosen = draw(weights, count, seed=[self._seed, 4, self._calls])
        self._calls += 1
        return [self._samples[i] for i in chosen]

    def weight(self, id_: str) -> float:
        """How likely a sample is to be drawn, up to the sum over all."""
        a, b = self._counts[id_]
        value = a / (a + b)
        return math.sqrt(value * (1 - value)) + self._floor

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        for group in scored:
            a, b = self._counts[sample_id(group)]
            rate = pass_rate(group)
            self._counts[sample_id(group)] = (self._keep * a + rate, self._keep * b + 1 - rate)

    def state(self) -> dict[str, Any]:
        return {"calls": self._calls, "counts": {id_: list(ab) for id_, ab in self._counts.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        self._calls = int(state["calls"])
        self._counts = {id_: (float(a), float(b)) for id_, (a, b) in state["counts"].items()}
