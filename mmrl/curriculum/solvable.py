"""Leaves out what the policy cannot do at all: rollout-based instance filtering (RIF-RFT, arXiv:2507.05386)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrl.curriculum.outcomes import known_pass_rate, pass_rate, sample_id, some_samples
from mmrl.curriculum.shuffled import Shuffled
from mmrl.types import Sample, ScoredGroup


class SolvableOnly:
    """Shuffled, without samples whose *first* group had no correct rollout; all-correct ones stay.

    The paper samples every instance before training and drops the hopeless ones (its rule is unconfirmed). Here a
    sample with `metadata.pass_rate` is judged by that before it is ever asked, any other by its first group: the first
    epoch is the screening. A sample that passed stays, whatever happens to it later.
    """

    def __init__(self, samples: Sequence[Sample], *, seed: int) -> None:
        self._all = Shuffled(some_samples(samples), seed=seed)
        self._size = len(samples)
        rates = {s.id: known_pass_rate(s) for s in samples}
        self._solvable: dict[str, bool] = {id_: rate > 0 for id_, rate in rates.items() if rate is not None}

    def next(self, count: int) -> list[Sample]:
        chosen: list[Sample] = []
        looked_at = 0
        while len(chosen) < count and looked_at < self._size:
            (sample,) = self._all.next(1)
            looked_at += 1
            if self._solvable.get(sample.id, True):
                chosen.append(sample)
                looked_at = 0
        return chosen

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        for group in scored:
            self._solvable.setdefault(sample_id(group), pass_rate(group) > 0)

    def state(self) -> dict[str, Any]:
        return {"all": self._all.state(), "solvable": dict(self._solvable)}

    def load_state(self, state: dict[str, Any]) -> None:
        self._all.load_state(state["all"])
        self._solvable = dict(state["solvable"])
