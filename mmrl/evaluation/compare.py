"""Two models on the same samples: how far apart, how sure, and which samples flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mmrl.errors import RunError
from mmrl.evaluation.estimators import Interval, mcnemar, paired_bootstrap, paired_permutation_test
from mmrl.evaluation.measures import MEASURES
from mmrl.evaluation.result import EvaluationResult, SampleRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskComparison:
    """One task, or all together: `after` minus `before`, on the samples both were asked."""

    samples: int
    difference: Interval  # of mean accuracy; in [−1, 1]
    p_value: float  # two-sided paired permutation test of "no difference"
    mcnemar_p_value: float  # two-sided exact McNemar test: the flips alone, right or wrong
    won: tuple[str, ...]  # ids of samples wrong before and right after, in the order of the data
    lost: tuple[str, ...]  # right before and wrong after
    tokens: Interval | None = None  # of the mean length, over samples both answered; None: there is none
    measures: Mapping[str, Interval] = field(default_factory=dict)  # of the means, over samples it speaks of on both


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two evaluations, sample by sample."""

    overall: TaskComparison
    tasks: Mapping[str, TaskComparison]  # in order of first appearance
    only_before: tuple[str, ...]  # ids that only one of the two was asked: they count nowhere here
    only_after: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(before: EvaluationResult, after: EvaluationResult) -> Comparison:
    """Pairs samples by id; the settings of `after` say what is correct and how intervals are made."""
    first = {row.id: row for row in before.rows}
    second = {row.id: row for row in after.rows}
    pairs = [(row, second[row.id]) for row in before.rows if row.id in second]
    if not pairs:
        raise RunError(
            "compare: the two evaluations have no sample in common, so nothing can be paired. Evaluate both models on "
            "the same manifest."
        )
    tasks = dict.fromkeys(row.task for row, _ in pairs)
    return Comparison(
        overall=_compare(pairs, after),
        tasks={task: _compare([pair for pair in pairs if pair[0].task == task], after) for task in tasks},
        only_before=tuple(row.id for row in before.rows if row.id not in second),
        only_after=tuple(row.id for row in after.rows if row.id not in first),
    )


def _compare(pairs: Sequence[tuple[SampleRow, SampleRow]], result: EvaluationResult) -> TaskComparison:
    settings = result.settings

    def difference(before: Sequence[float], after: Sequence[float]) -> Interval:
        return paired_bootstrap(
            before, after, seed=settings.seed, resamples=settings.resamples, confidence=settings.confidence
        )

    old = [row.accuracy for row, _ in pairs]
    new = [row.accuracy for _, row in pairs]
    right = [(a >= settings.correct_at, b >= settings.correct_at) for a, b in zip(old, new, strict=True)]
    won = tuple(row.id for (row, _), (a, b) in zip(pairs, right, strict=True) if b and not a)
    lost = tuple(row.id for (row, _), (a, b) in zip(pairs, right, strict=True) if a and not b)
    answered = [(a.tokens, b.tokens) for a, b in pairs if a.dropped is None and b.dropped is None]
    told = {
        name: [(a.measures[name], b.measures[name]) for a, b in pairs if name in a.measures and name in b.measures]
        for name in MEASURES
    }
    return TaskComparison(
        samples=len(pairs),
        difference=difference(old, new),
        p_value=paired_permutation_test(old, new, seed=settings.seed),
        mcnemar_p_value=mcnemar(won=len(won), lost=len(lost)),
        won=won,
        lost=lost,
        tokens=difference(*zip(*answered, strict=True)) if answered else None,
        measures={name: difference(*zip(*both, strict=True)) for name, both in told.items() if both},
    )
