"""Easy samples first, all of them later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmrl.curriculum.outcomes import PASS_RATE, known_pass_rate, some_samples
from mmrl.errors import DataError
from mmrl.types import Sample, ScoredGroup


class EasyToHard:
    """Draws from the easiest part of the data; the part grows linearly from `first` to all over `draws` samples.

    Easy is a high `metadata.pass_rate`, measured before training; ties keep the manifest's order. Within the part every
    sample is asked once before any is asked again; samples that join later are behind and so come first.
    """

    def __init__(self, samples: Sequence[Sample], *, seed: int, first: float = 0.25, draws: int = 4096) -> None:
        rates = [(known_pass_rate(sample), sample) for sample in some_samples(samples)]
        missing = [sample.id for rate, sample in rates if rate is None]
        if missing:
            raise DataError(
                f"sample {missing[0]!r} has no metadata.{PASS_RATE} ({len(missing)} of {len(rates)} lack it). The "
                "easy-to-hard sampler orders by it: measure it with the model you start from, or take another sampler."
            )
        ordered = sorted(rates, key=lambda pair: -(pair[0] or 0.0))
        self._samples = [sample for _, sample in ordered]
        self._seed, self._first, self._draws = seed, first, draws
        self._drawn = 0
        self._asked = [0] * len(self._samples)  # how often each was asked

    def next(self, count: int) -> list[Sample]:
        part = self.part()
        random = np.random.default_rng([self._seed, 3, self._drawn])
        order = random.permutation(part).tolist()
        order.sort(key=lambda i: self._asked[i])
        chosen = order[:count]
        for i in chosen:
            self._asked[i] += 1
        self._drawn += len(chosen)
        return [self._samples[i] for i in chosen]

    def part(self) -> int:
        """How many of the easiest samples are in play now."""
        share = self._first + (1 - self._first) * min(1.0, self._drawn / self._draws)
        return max(1, math.ceil(share * len(self._samples)))

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {"drawn": self._drawn, "asked": list(self._asked)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._drawn = int(state["drawn"])
        self._asked = list(state["asked"])
