"""Scores groups of rollouts and keeps the run alive whatever a reward does.

    sets = reward_uses({"default": [{"name": "choice"}, {"name": "format", "weight": 0.5}]})
    with RewardScorer(sets) as rewards:
        rewards.check(samples[:8])              # a set that cannot work is found before any GPU time
        scored, dropped = rewards.score(groups)
        future = rewards.score_async(groups)    # or: while the model computes something else

Rewards whose time is bounded run here; all others run in processes that are killed at their time limit (`pool.py`). A
reward that fails on one completion costs that completion only: value 0, or the rollout leaves its group.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Self

from mmrl.errors import RewardError
from mmrl.rewards.gold import gold_completion
from mmrl.rewards.pool import WorkerPool
from mmrl.rewards.reward import Reward
from mmrl.rewards.tally import Tally
from mmrl.rewards.worker import Call, Outcome, call_reward
from mmrl.types import Completion, Dropped, RewardResult, RewardStatus, RolloutGroup, Sample, ScoredGroup

DEFAULT_SET = "default"
LOADING_SECONDS = 180.0  # for a sample's frames; decoding has a deadline of its own, which is meant to come first
Scored = tuple[list[ScoredGroup], list[Dropped]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardUse:
    """A reward as a recipe uses it."""

    name: str  # unique in its set; names the reward in traces and metrics
    reward: Reward
    weight: float = 1.0  # the total is Σ weight · value
    timeout_seconds: float = 5.0  # of one call, where it runs in a process of its own
    on_failure: Literal["zero", "leave_out"] = "zero"  # value 0, or the rollout leaves its group
    normalize: bool = False  # map the value from the declared range to [0, 1] before it is weighted


class RewardScorer:
    """The reward sets of a run. A group is scored by the set named like its sample's task, else by `default`."""

    def __init__(
        self,
        sets: Mapping[str, Sequence[RewardUse]],
        *,
        workers: int = 2,
        frames: str = "",
        memory_gib: float = 8.0,
        stop_after_failures: int = 64,
    ) -> None:
        """`workers`: most processes at a time. `frames`: "module:function", from (sample, views) to its decoded
        pictures, for rewards that ask for them. `memory_gib`: address space of a worker; 0: no limit (a reward that
        uses a GPU needs that). `stop_after_failures`: a reward that failed so many times in a row ends the run.
        """
        self._sets = {task: tuple(uses) for task, uses in sets.items()}
        _refuse_doubles(self._sets)
        pooled = [use for uses in self._sets.values() for use in uses if not use.reward.in_process]
        self._places = {id(use): place for place, use in enumerate(pooled)}
        rewards = [(use.name, use.reward) for use in pooled]
        self._pool = WorkerPool(rewards, workers=workers, frames=frames, memory_gib=memory_gib) if rewards else None
        self._tally = Tally(stop_after_failures)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def score(self, groups: Sequence[RolloutGroup]) -> Scored:
        """Every group with its results, and what had to be left out. Groups that lose all rollouts are left out."""
        with self._lock:
            plan = [
                (use, rollout.completion, group.prompt.sample)
                for group in groups
                for rollout in group.rollouts
                for use in self._uses(group.prompt.sample)
            ]
            outcomes = iter(self._run(plan))
            self._tally.begin()
            scored: list[ScoredGroup] = []
            dropped: list[Dropped] = []
            for group in groups:
                uses = self._uses(group.prompt.sample)
                rows = [[next(outcomes) for _ in uses] for _ in group.rollouts]
                for place, use in enumerate(uses if rows else ()):
                    column = [row[place] for row in rows]
                    values = [_value(use, outcome) for outcome in column]
                    self._tally.count(use.name, values, column, group.prompt.sample)
                kept = _without_left_out(group, uses, rows, dropped)
                if kept:
                    scored.append(_scored(group, uses, kept, [rows[i] for i in kept]))
            self._tally.stop_where_nothing_works()
            return scored, dropped

    def score_async(self, groups: Sequence[RolloutGroup]) -> Future[Scored]:
        """`score`, while the caller goes on. Errors come out of the future; calls are served one after the other."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rewards")
        return self._executor.submit(self.score, groups)

    def check(self, samples: Sequence[Sample], *, run: int = 8) -> None:
        """Raise `RewardError` or `DataError`, in plain words, where these samples cannot be scored.

        Every sample's task must have a set, and every reward of it must be able to score the answer. The first `run`
        samples are also scored, with the right answer and with a blank one; a reward that fails on all of them is out.
        """
        for sample in samples:
            for use in self._uses(sample):
                use.reward.verify(sample, name=use.name)
        with self._lock:
            plan = [
                (use, completion, sample)
                for sample in samples[:run]
                for completion in (gold_completion(sample), Completion(text="", token_count=1))
                for use in self._uses(sample)
            ]
            outcomes = self._run(plan)
        failures: dict[str, list[str]] = {}
        working: set[str] = set()
        for (use, _, sample), outcome in zip(plan, outcomes, strict=True):
            if outcome.score is None:
                failures.setdefault(use.name, []).append(f"sample {sample.id!r}: {outcome.error}")
            else:
                working.add(use.name)
        for name, messages in failures.items():
            if name not in working:
                raise RewardError(
                    f"reward {name!r} failed on all {len(messages)} trials at the start (the right answer and a blank "
                    f"one, on the first samples). First failure: {messages[0]}"
                )

    def metrics(self) -> dict[str, float]:
        """Of the last call: `reward/<name>_mean|_failed|_timeouts` and `time/reward_<name>_ms` (mean of a call)."""
        return self._tally.metrics()

    @property
    def process_ids(self) -> list[int]:
        """Of the worker processes that exist now."""
        return self._pool.process_ids if self._pool else []

    def close(self) -> None:
        """End the worker processes. What `score_async` still works on is waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _uses(self, sample: Sample) -> tuple[RewardUse, ...]:
        uses = self._sets.get(sample.task)
        if uses is None:
            uses = self._sets.get(DEFAULT_SET)
        if uses is None:
            raise RewardError(
                f"sample {sample.id!r} is of task {sample.task!r}, and no reward set has that name. Known sets: "
                f"{', '.join(sorted(self._sets))}. Add `rewards.{sample.task}`, or a set named `{DEFAULT_SET}`."
            )
        return uses

    def _run(self, plan: Sequence[tuple[RewardUse, Completion, Sample]]) -> list[Outcome]:
        calls = [
            Call(
                reward=self._places[id(use)],
                completion=completion,
                sample=sample,
                timeout_seconds=use.timeout_seconds,
                loading_seconds=LOADING_SECONDS if use.reward.needs_frames else 0.0,
            )
            for use, completion, sample in plan
            if not use.reward.in_process
        ]
        pooled = iter(self._pool.run(calls) if self._pool and calls else ())
        outcomes = []
        for use, completion, sample in plan:
            in_process = use.reward.in_process
            outcome = call_reward(use.reward, completion, sample) if in_process else next(pooled)
            if outcome.defect:
                raise RewardError(f"reward {use.name!r}: {outcome.error}")
            outcomes.append(outcome)
        return outcomes


def _refuse_doubles(sets: Mapping[str, Sequence[RewardUse]]) -> None:
    for task, uses in sets.items():
        names = [use.name for use in uses]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise RewardError(
                f"reward set {task!r} uses {', '.join(map(repr, doubles))} more than once. Results are kept by name: "
                f"give one of them another name, or join their weights."
            )


def _value(use: RewardUse, outcome: Outcome) -> float:
    if outcome.score is None:
        return 0.0
    return use.reward.unit(outcome.score.value) if use.normalize else outcome.score.value


def _result(use: RewardUse, outcome: Outcome) -> RewardResult:
    return RewardResult(
        value=_value(use, outcome),
        weight=use.weight,
        status=outcome.status,
        details=outcome.score.details if outcome.score is not None else {"error": outcome.error},
        seconds=outcome.seconds,
    )


def _without_left_out(
    group: RolloutGroup, uses: Sequence[RewardUse], rows: Sequence[Sequence[Outcome]], dropped: list[Dropped]
) -> list[int]:
    """Positions of the rollouts that stay in the group; the others are added to `dropped`."""
    kept = []
    for position, row in enumerate(rows):
        failed = [
            (use, outcome)
            for use, outcome in zip(uses, row, strict=True)
            if outcome.score is None and use.on_failure == "leave_out"
        ]
        if not failed:
            kept.append(position)
            continue
        use, outcome = failed[0]
        what = "timeout" if outcome.status is RewardStatus.TIMEOUT else "failed"
        dropped.append(
            Dropped(
                sample_id=group.prompt.sample.id,
                stage="reward",
                reason=f"reward {use.name} {what}",
                detail=f"rollout {group.rollouts[position].index} left its group: {outcome.error}",
            )
        )
    return kept


def _scored(
    group: RolloutGroup, uses: Sequence[RewardUse], kept: Sequence[int], rows: Sequence[Sequence[Outcome]]
) -> ScoredGroup:
    if len(kept) < len(group.rollouts):
        group = replace(group, rollouts=tuple(group.rollouts[i] for i in kept))
    results = tuple({use.name: _result(use, outcome) for use, outcome in zip(uses, row, strict=True)} for row in rows)
    return ScoredGroup(
        group=group,
        results=results,
        totals=tuple([sum([r.weight * r.value for r in row.values()]) for row in results]),
        accuracy=_averages(uses, rows, "accuracy", without=0.0),
        format=_averages(uses, rows, "format", without=1.0),
    )


def _averages(
    uses: Sequence[RewardUse], rows: Sequence[Sequence[Outcome]], kind: str, *, without: float
) -> tuple[float, ...]:
    """Per rollout, the weighted mean over the rewards of one kind, each mapped to [0, 1]; the plain mean where no
    weight is positive.
    """
    chosen = [(place, use.reward, max(use.weight, 0.0)) for place, use in enumerate(uses) if use.reward.kind == kind]
    if not chosen:
        return (without,) * len(rows)
    total = sum(weight for _, _, weight in chosen)
    if total <= 0.0:
        chosen = [(place, reward, 1.0) for place, reward, _ in chosen]
        total = float(len(chosen))
    return tuple(
        [sum([weight * _unit(reward, row[place]) for place, reward, weight in chosen]) / total for row in rows]
    )


def _unit(reward: Reward, outcome: Outcome) -> float:
    return 0.0 if outcome.score is None else reward.unit(outcome.score.value)
