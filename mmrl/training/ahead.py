"""Rollouts one step ahead: while the policy is trained on a step's groups, those of the next are collected.

    step n     take      the step's groups, which were collected during the step before
               begin     collecting step n + 1 in a thread: the engine has the weights of version n
               train     credit and updates: version n becomes n + 1
               refresh   wait for the thread; only then the engine is given version n + 1

So weights never change while something is sampled, the rollouts of a step are all of one version, and from the second
step on that is exactly one behind the policy they train, whichever of the two takes longer: the same seeds give the
same run. Samplers, filters and refills see the steps in the order in which they see them without this. Checkpoints are
written after `refresh`, when the next step's groups are there, and hold them (`in_flight.py`).

The thread shares nothing with training that either of them changes: with several ranks it meets the others in a
process group of its own (`Ranks.apart`), and the engine has to have weights of its own and a processor of its own to
compute on, which is why only servers can be ahead (`config/checks.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol

from mmrl.ranks import Ranks
from mmrl.training.collect import Collected, Renderer
from mmrl.training.in_flight import InFlight
from mmrl.types import RolloutGroup

Meanwhile = Callable[[Sequence[RolloutGroup]], None]


class Collects(Protocol):
    """Collects one step's groups, with these ranks; `meanwhile` is done with them while they are scored."""

    def __call__(self, step: int, *, ranks: Ranks, meanwhile: Meanwhile | None) -> Collected: ...


class Ahead:
    """Hands each step its groups. Use as a context: nothing is told any more of what it leaves under way."""

    def __init__(
        self,
        collect: Collects,
        in_flight: InFlight,
        *,
        versions: int,
        steps: int,
        renderer: Renderer,
        ranks: Ranks,
        tell: Callable[[str], None],
    ) -> None:
        """`versions`: how far the weights that sample may be behind those that train: 0, then a step's groups are
        collected when they are asked for, or 1. `steps`: of the run; nothing is collected for those beyond.
        """
        self._collect = collect
        self._in_flight = in_flight
        self._versions = versions
        self._steps = steps
        self._renderer = renderer
        self._ranks = ranks
        self._thread_ranks = ranks.apart() if versions else ranks
        self._tell = tell
        self._under_way: tuple[int, Future[Collected]] | None = None
        self._left = False

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True

    def take(self, step: int, meanwhile: Meanwhile | None) -> Collected:
        """The groups of `step`. With `versions` 1, those of the next are being collected when this returns."""
        collected = self._in_flight.take(step, self._renderer, self._ranks)
        if collected is None:
            collected = self._collect(step, ranks=self._ranks, meanwhile=meanwhile)
        if self._versions and step + 1 < self._steps:
            self._begin(step + 1)
        return collected

    def refresh(self, load: Callable[[], None]) -> float:
        """Let the engine `load` the present weights, once nothing is being sampled; the seconds waited for that.

        Raises what went wrong with the groups that were under way: no step could be made of them.
        """
        began = time.perf_counter()
        if self._under_way is not None:
            step, future = self._under_way
            self._in_flight.put(step, future.result())
            self._under_way = None
        waited = time.perf_counter() - began
        load()
        return waited

    def _begin(self, step: int) -> None:
        future: Future[Collected] = Future()

        def work() -> None:
            try:
                future.set_result(self._collect(step, ranks=self._thread_ranks, meanwhile=None))
            except BaseException as error:
                if not self._left:
                    self._tell(f"step {step}'s rollouts, asked for ahead, failed: the run ends after step {step - 1}")
                future.set_exception(error)

        self._under_way = (step, future)
        threading.Thread(target=work, name=f"rollouts-{step}", daemon=True).start()
