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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Self

from mmrl.errors import RewardError
from mmrl.rewards.gold import gold_completion
from mmrl.rewards.pool import WorkerPool
from mmrl.rewards.reward import Reward
from mmrl.rewards.tally import Tally
from mmrl.rewards.worker import Call, Outcome, call_reward
from mmrl.types import AnswerType, Completion, Dropped, RewardResult, RewardStatus, RolloutGroup, Sample, ScoredGroup

DEFAULT_SET = "default"
LOADING_SECONDS = 180.0  # for a sample's frames; decoding has a deadline of its own, which is meant to come first
Scored = tuple[list[ScoredGroup], list[Dropped]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardUse:
    """A reward as a config uses it."""

    name: str  # unique in its set; names the reward in traces and metrics
    reward: Reward
    weight: float = 1.0  # the total is Σ weight · value
    timeout_seconds: float = 5.0  # of one call, where it runs in a process of its own
    on_failure: Literal["zero", "leave_out"] = "zero"  # value 0, or the rollout leaves its group
    normalize: bool = False  # map the value from the declared range to [0, 1] before it is weighted


class RewardScorer:
    """The reward sets of a run. A group is scored by the set of its sample's task (`set_of`), else by `default`."""

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
            planned = [
                (use, rollout.completion, group.prompt.sample)
                for group in groups
                for use in self._uses(group.prompt.sample)
                if not use.reward.in_process
                for rollout in group.rollouts
            ]
            pooled = iter(self._in_pool(planned))
            self._tally.begin()
            scored: list[ScoredGroup] = []
            dropped: list[Dropped] = []
            for group in groups:
                uses = self._uses(group.prompt.sample)
                completions = [rollout.completion for rollout in group.rollouts]
                columns = [_column(use, completions, group.prompt.sample, pooled) for use in uses]
                for column in columns if group.rollouts else ():
                    self._tally.count(column.use.name, column.values, column.outcomes, group.prompt.sample)
                kept = _without_left_out(group, columns, dropped)
                if kept:
                    scored.append(_scored(group, columns, kept))
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
        trials = [
            (use, [gold_completion(sample), Completion(text="", token_count=1)], sample)
            for sample in samples[:run]
            for use in self._uses(sample)
        ]
        failures: dict[str, list[str]] = {}
        working: set[str] = set()
        with self._lock:
            planned = [
                (use, completion, sample)
                for use, completions, sample in trials
                if not use.reward.in_process
                for completion in completions
            ]
            pooled = iter(self._in_pool(planned))
            for use, completions, sample in trials:
                for outcome in _column(use, completions, sample, pooled).outcomes:
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

    def _uses(self, sample: Sample) -> Sequence[RewardUse]:
        uses = set_of(sample, self._sets)
        if uses is None:
            raise RewardError(
                f"sample {sample.id!r} is of task {sample.task!r}, and no reward set has that name. Known sets: "
                f"{', '.join(sorted(self._sets))}. Add `rewards.{sample.task}`, or a set named `{DEFAULT_SET}`."
            )
        return uses

    def _in_pool(self, plan: Sequence[tuple[RewardUse, Completion, Sample]]) -> list[Outcome]:
        """Outcomes of rewards that do not run in this process, in the order of the plan."""
        calls = [
            Call(
                reward=self._places[id(use)],
                completion=completion,
                sample=sample,
                timeout_seconds=use.timeout_seconds,
                loading_seconds=LOADING_SECONDS if use.reward.needs_frames else 0.0,
            )
            for use, completion, sample in plan
        ]
        return list(self._pool.run(calls)) if self._pool and calls else []


def set_name(task: str, kind: AnswerType) -> str:
    """Of the set for one kind of a task's answers, where it has several: "clips/number"."""
    return f"{task}/{kind}"


def set_of(sample: Sample, sets: Mapping[str, Sequence[RewardUse]]) -> Sequence[RewardUse] | None:
    """The set for a sample's task and kind of answer, else for its task, else the default one; None: there is none."""
    names = (set_name(sample.task, sample.answer.type), sample.task, DEFAULT_SET)
    return next((sets[name] for name in names if name in sets), None)


@dataclass(frozen=True, slots=True)
class _Column:
    """One reward on the rollouts of one group."""

    use: RewardUse
    outcomes: list[Outcome]
    values: list[float]  # as they are weighted; 0 where the reward failed


def _column(use: RewardUse, completions: Sequence[Completion], sample: Sample, pooled: Iterator[Outcome]) -> _Column:
    """Runs the reward here, or takes what the pool made of it."""
    reward = use.reward
    if reward.in_process:
        outcomes = [call_reward(reward, completion, sample) for completion in completions]
    else:
        outcomes = [next(pooled) for _ in completions]
    values = []
    for outcome in outcomes:
        if outcome.defect:
            raise RewardError(f"reward {use.name!r}: {outcome.error}")
        if outcome.score is None:
            values.append(0.0)
        else:
            values.append(reward.unit(outcome.score.value) if use.normalize else outcome.score.value)
    return _Column(use, outcomes, values)


def _refuse_doubles(sets: Mapping[str, Sequence[RewardUse]]) -> None:
    for task, uses in sets.items():
        names = [use.name for use in uses]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise RewardError(
                f"reward set {task!r} uses {', '.join(map(repr, doubles))} more than once. Results are kept by name: "
                f"give one of them another name, or join their weights."
            )


def _without_left_out(group: RolloutGroup, columns: Sequence[_Column], dropped: list[Dropped]) -> list[int]:
    """Positions of the rollouts that stay in the group; the others are added to `dropped`."""
    strict = [column for column in columns if column.use.on_failure == "leave_out"]
    if not strict:
        return list(range(len(group.rollouts)))
    kept = []
    for position, rollout in enumerate(group.rollouts):
        failed = next((column for column in strict if column.outcomes[position].score is None), None)
        if failed is None:
            kept.append(position)
            continue
        outcome = failed.outcomes[position]
        what = "timeout" if outcome.status is RewardStatus.TIMEOUT else "failed"
        dropped.append(
            Dropped(
                sample_id=group.prompt.sample.id,
                stage="reward",
                reason=f"reward {failed.use.name} {what}",
                detail=f"rollout {rollout.index} left its group: {outcome.error}",
            )
        )
    return kept


def _scored(group: RolloutGroup, columns: Sequence[_Column], kept: Sequence[int]) -> ScoredGroup:
    if len(kept) < len(group.rollouts):
        group = replace(group, rollouts=tuple(group.rollouts[i] for i in kept))
    weighted = [(column.use.weight, column.values) for column in columns]
    results = [(column.use.name, _results(column)) for column in columns]
    return ScoredGroup(
        group=group,
        results=tuple([{name: of_reward[i] for name, of_reward in results} for i in kept]),
        totals=tuple([sum([weight * values[i] for weight, values in weighted]) for i in kept]),
        accuracy=_averages(columns, kept, "accuracy", without=0.0),
        format=_averages(columns, kept, "format", without=1.0),
    )


def _results(column: _Column) -> list[RewardResult]:
    weight = column.use.weight
    return [
        RewardResult(
            value=value,
            weight=weight,
            status=outcome.status,
            details=outcome.score.details if outcome.score is not None else {"error": outcome.error},
            seconds=outcome.seconds,
        )
        for value, outcome in zip(column.values, column.outcomes, strict=True)
    ]


def _averages(columns: Sequence[_Column], kept: Sequence[int], kind: str, *, without: float) -> tuple[float, ...]:
    """Per rollout, the weighted mean over the rewards of one kind, each mapped to [0, 1]; the plain mean where no
    weight is positive.
    """
    chosen = [
        (max(column.use.weight, 0.0), _units(column, kept)) for column in columns if column.use.reward.kind == kind
    ]
    if not chosen:
        return (without,) * len(kept)
    if len(chosen) == 1:
        return tuple(chosen[0][1])
    total = sum(weight for weight, _ in chosen)
    if total <= 0.0:
        chosen = [(1.0, units) for _, units in chosen]
        total = float(len(chosen))
    return tuple([sum([weight * units[i] for weight, units in chosen]) / total for i in range(len(kept))])


def _units(column: _Column, kept: Sequence[int]) -> list[float]:
    """The reward's values of the rollouts that stay, mapped from its declared range to [0, 1]; 0 where it failed."""
    unit = column.use.reward.unit
    scores = [column.outcomes[i].score for i in kept]
    return [0.0 if score is None else unit(score.value) for score in scores]
