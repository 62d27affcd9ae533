"""How many rollouts each sample of a step is worth: Knapsack RL, arXiv:2509.25849."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from mmrl.curriculum.outcomes import known_pass_rate, pass_rate, sample_id, some_samples
from mmrl.curriculum.shuffled import Shuffled
from mmrl.errors import ConfigError
from mmrl.types import Sample, ScoredGroup


class Knapsack:
    """Shuffled samples, and for each of a step's a number of rollouts (`group_sizes`) by its last pass rate.

    A sample never asked has no pass rate; while any of a step's samples is unknown, all get equal shares (the paper's
    first epoch). A sample that was never or always right has value 0 in the paper's formula: the first is treated as
    p = `hopeful`, the second gets the least (our choice; the paper has rules of its own for both).
    """

    def __init__(
        self, samples: Sequence[Sample], *, seed: int, least: int = 2, most: int = 128, hopeful: float = 0.05
    ) -> None:
        self._pool = Shuffled(some_samples(samples), seed=seed)
        self._least, self._most, self._hopeful = least, most, hopeful
        rates = {s.id: known_pass_rate(s) for s in samples}
        self._rates: dict[str, float] = {id_: rate for id_, rate in rates.items() if rate is not None}

    def next(self, count: int) -> list[Sample]:
        return self._pool.next(count)

    def group_sizes(self, samples: Sequence[Sample], budget: int) -> list[int]:
        """Rollouts per sample; they sum to `budget`."""
        rates = [self._rates.get(sample.id) for sample in samples]
        if any(rate is None for rate in rates):
            return [budget // len(samples) + (i < budget % len(samples)) for i in range(len(samples))]
        hoped = [self._hopeful if rate == 0 else rate for rate in rates if rate is not None]
        return allocate(hoped, budget, least=self._least, most=self._most)

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        for group in scored:
            self._rates[sample_id(group)] = pass_rate(group)

    def state(self) -> dict[str, Any]:
        return {"pool": self._pool.state(), "rates": dict(self._rates)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._pool.load_state(state["pool"])
        self._rates = dict(state["rates"])


def value(rate: float, rollouts: int) -> float:
    """(1 − p^N − (1 − p)^N) · p(1 − p)²: chance of a gradient times what it is worth (its form is unconfirmed)."""
    return (1 - rate**rollouts - (1 - rate) ** rollouts) * rate * (1 - rate) ** 2


def allocate(rates: Sequence[float], budget: int, *, least: int = 2, most: int = 128) -> list[int]:
    """The allocation of largest total value with `least` ≤ N_i ≤ `most` and Σ N_i = budget.

    Greedy by marginal gain, which is exact because the value is concave in N from 2 on. Equal gains go to the earlier
    sample.
    """
    if not least * len(rates) <= budget <= most * len(rates):
        raise ConfigError(
            f"knapsack: {budget} rollouts cannot be shared by {len(rates)} samples of {least} to {most} each. Change "
            "rollout.group_size or the sampler's bounds."
        )
    sizes = [least] * len(rates)

    def gain(i: int) -> float:
        return value(rates[i], sizes[i] + 1) - value(rates[i], sizes[i])

    heap = [(-gain(i), i) for i in range(len(rates)) if least < most]
    heapq.heapify(heap)
    for _ in range(budget - least * len(rates)):
        _, i = heapq.heappop(heap)
        sizes[i] += 1
        if sizes[i] < most:
            heapq.heappush(heap, (-gain(i), i))
    return sizes
