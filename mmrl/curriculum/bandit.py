"""A bandit over categories: self-evolving curriculum (SEC), arXiv:2505.14970."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmrl.curriculum.outcomes import mean_absolute_advantage, some_samples
from mmrl.curriculum.shuffled import Shuffled
from mmrl.types import Sample, ScoredGroup


class CategoryBandit:
    """Each sample's category is drawn by softmax(Q / temperature); within a category samples are shuffled.

        Q_c ← Q_c + rate · (mean |A| of the category's groups − Q_c)          once per scored batch

    The category is `metadata[key]`, or the task where a sample has none. rate 0.5 and temperature 1 are our choice: the
    paper's are tuned per task and unconfirmed.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        seed: int,
        key: str = "category",
        rate: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        self._key, self._rate, self._temperature, self._seed = key, rate, temperature, seed
        members: dict[str, list[Sample]] = {}
        for sample in some_samples(samples):
            members.setdefault(self._category(sample), []).append(sample)
        self._streams = {name: Shuffled(members[name], seed=seed) for name in sorted(members)}
        self._sizes = {name: len(members[name]) for name in self._streams}
        self._values = dict.fromkeys(self._streams, 0.0)
        self._calls = 0

    def next(self, count: int) -> list[Sample]:
        """Distinct samples: a category that is used up within the call leaves the draw."""
        random = np.random.default_rng([self._seed, 2, self._calls])
        self._calls += 1
        left = dict(self._sizes)
        chosen: dict[str, Sample] = {}
        while len(chosen) < count and any(left.values()):
            odds = probabilities({n: q for n, q in self._values.items() if left[n]}, self._temperature)
            name = str(random.choice(list(odds), p=list(odds.values())))
            (sample,) = self._streams[name].next(1)
            if sample.id not in chosen:
                left[name] -= 1
                chosen[sample.id] = sample
        return list(chosen.values())

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        found: dict[str, list[float]] = {}
        for group in scored:
            found.setdefault(self._category(group.group.prompt.sample), []).append(mean_absolute_advantage(group))
        for name, values in found.items():
            self.update(name, sum(values) / len(values))

    def update(self, category: str, reward: float) -> None:
        """One step of TD(0) towards `reward`."""
        self._values[category] += self._rate * (reward - self._values[category])

    @property
    def values(self) -> Mapping[str, float]:
        """Q per category."""
        return self._values

    def state(self) -> dict[str, Any]:
        return {
            "values": dict(self._values),
            "calls": self._calls,
            "streams": {name: stream.state() for name, stream in self._streams.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._values = {name: float(value) for name, value in state["values"].items()}
        self._calls = int(state["calls"])
        for name, stream in self._streams.items():
            stream.load_state(state["streams"][name])

    def _category(self, sample: Sample) -> str:
        return str(sample.metadata.get(self._key, sample.task))


def probabilities(values: Mapping[str, float], temperature: float) -> dict[str, float]:
    """softmax(Q / temperature)."""
    highest = max(values.values())
    weights = {name: math.exp((value - highest) / temperature) for name, value in values.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}
