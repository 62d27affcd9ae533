"""Counts what rewards did: the metrics of a step, and when to stop because a reward never works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmrl.errors import RewardError
from mmrl.rewards.worker import Outcome
from mmrl.types import RewardStatus, Sample

# A reward that has never worked ends the run as soon as it failed on so many completions of so many samples.
_NEVER_WORKED_CALLS = 8
_NEVER_WORKED_SAMPLES = 2


@dataclass(slots=True)
class _Step:
    """One reward in one call of `score`."""

    calls: int = 0
    total: float = 0.0
    failed: int = 0
    timeouts: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    cost: float = 0.0
    has_cost: bool = False


@dataclass(slots=True)
class _Run:
    """One reward since the beginning."""

    worked: bool = False
    failures_in_a_row: int = 0
    failed_samples: set[str] = field(default_factory=set)  # since it last worked, at most a few
    last_error: str = ""


class Tally:
    def __init__(self, stop_after_failures: int) -> None:
        self._stop_after = stop_after_failures
        self._step: dict[str, _Step] = {}
        self._run: dict[str, _Run] = {}

    def begin(self) -> None:
        """A new call of `score` begins."""
        self._step = {}

    def count(self, name: str, values: Sequence[float], outcomes: Sequence[Outcome], sample: Sample) -> None:
        """What one reward did on the rollouts of one group."""
        step = self._step.setdefault(name, _Step())
        run = self._run.setdefault(name, _Run())
        step.calls += len(outcomes)
        step.total += sum(values)
        for outcome in outcomes:
            step.seconds += outcome.seconds
            if outcome.seconds > step.slowest:
                step.slowest = outcome.seconds
            if outcome.score is None:
                self._count_failure(step, run, outcome, sample)
                continue
            run.worked = True
            run.failures_in_a_row = 0
            if "cost" in outcome.score.details:
                cost = outcome.score.details["cost"]
                step.cost += cost if isinstance(cost, int | float) else 0.0
                step.has_cost = True

    def _count_failure(self, step: _Step, run: _Run, outcome: Outcome, sample: Sample) -> None:
        step.failed += 1
        step.timeouts += outcome.status is RewardStatus.TIMEOUT
        if run.failures_in_a_row == 0:
            run.failed_samples.clear()
        run.failures_in_a_row += 1
        if len(run.failed_samples) < _NEVER_WORKED_SAMPLES:
            run.failed_samples.add(sample.id)
        run.last_error = f"sample {sample.id!r}: {outcome.error}"

    def stop_where_nothing_works(self) -> None:
        """Raise `RewardError` for a reward that fails on everything."""
        for name, run in self._run.items():
            failures = run.failures_in_a_row
            hopeless = (
                not run.worked and failures >= _NEVER_WORKED_CALLS and len(run.failed_samples) >= _NEVER_WORKED_SAMPLES
            )
            if hopeless or failures >= self._stop_after:
                never = "and never worked in this run" if not run.worked else "although it worked before"
                raise RewardError(
                    f"reward {name!r} failed on the last {failures} completions in a row, {never}: training on it "
                    f"would teach nothing. Last failure: {run.last_error}. Mend the reward, or raise its "
                    f"timeout_seconds if it was killed. See docs/failures/reward-failures.md."
                )

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, step in self._step.items():
            found[f"reward/{name}_mean"] = step.total / step.calls
            found[f"reward/{name}_failed"] = float(step.failed)
            found[f"reward/{name}_timeouts"] = float(step.timeouts)
            if step.has_cost:
                found[f"reward/{name}_cost"] = step.cost
            found[f"time/reward_{name}_ms"] = 1000.0 * step.seconds / step.calls
            found[f"time/reward_{name}_max_ms"] = 1000.0 * step.slowest
        return found
