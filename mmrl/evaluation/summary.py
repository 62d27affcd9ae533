"""Rows → figures: of all samples, of each task, of each slice, and as benchmarks average them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mmrl.evaluation.benchmarks.averages import averages
from mmrl.evaluation.estimators import Interval, bootstrap, majority_at_k, pass_at_k
from mmrl.evaluation.measures import MEASURES
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings, SampleRow, TaskSummary


def result_of(
    rows: Sequence[SampleRow], settings: EvaluationSettings, *, facts: Mapping[str, Any] | None = None
) -> EvaluationResult:
    """Everything that follows from the rows (at least one)."""
    tasks = dict.fromkeys(row.task for row in rows)
    slices: dict[str, dict[str, TaskSummary]] = {}
    for key in settings.slice_by:
        values = sorted({row.slices[key] for row in rows if key in row.slices})
        if values:
            slices[key] = {
                value: summarise([row for row in rows if row.slices.get(key) == value], settings) for value in values
            }
    return EvaluationResult(
        settings=settings,
        overall=summarise(rows, settings),
        tasks={name: summarise([row for row in rows if row.task == name], settings) for name in tasks},
        rows=tuple(rows),
        slices=slices,
        benchmarks=averages(rows, settings),
        facts=facts or {},
    )


def summarise(rows: Sequence[SampleRow], settings: EvaluationSettings) -> TaskSummary:
    """The figures of some rows (at least one)."""
    n = settings.completions

    def interval(values: list[float]) -> Interval:
        return bootstrap(values, seed=settings.seed, resamples=settings.resamples, confidence=settings.confidence)

    def passed(row: SampleRow, k: int) -> float:
        correct = sum(accuracy >= settings.correct_at for accuracy in row.sampled_accuracies)
        return pass_at_k(samples=n, correct=correct, k=k)

    def voted(row: SampleRow, k: int) -> float:
        missing = n - len(row.sampled_accuracies)
        answers, accuracies = (*row.sampled_answers, *[None] * missing), (*row.sampled_accuracies, *[0.0] * missing)
        return majority_at_k(answers, accuracies, k=k)

    answered = [row for row in rows if row.dropped is None]
    reasons = Counter(f"{row.dropped.stage}: {row.dropped.reason}" for row in rows if row.dropped)
    measures = {name: [row.measures[name] for row in rows if name in row.measures] for name in MEASURES}
    measures = {name: values for name, values in measures.items() if values}
    by_seed = [row.seed_accuracies or (0.0,) * settings.seeds for row in rows] if n else []
    return TaskSummary(
        samples=len(rows),
        dropped=len(rows) - len(answered),
        accuracy=interval([row.accuracy for row in rows]),
        sampled_accuracy=interval([sum(row.sampled_accuracies) / n for row in rows]) if n else None,
        pass_at={k: interval([passed(row, k) for row in rows]) for k in settings.ks},
        majority_at={k: interval([voted(row, k) for row in rows]) for k in settings.ks},
        format_rate=fmean(row.format for row in answered) if answered else 0.0,
        length_mean=fmean(row.tokens for row in answered) if answered else 0.0,
        truncated_fraction=fmean(row.truncated for row in answered) if answered else 0.0,
        measures={name: interval(values) for name, values in measures.items()},
        measured={name: len(values) for name, values in measures.items()},
        seed_accuracies=tuple(fmean(seeds) for seeds in zip(*by_seed, strict=True)),
        reward_failures=sum(row.reward_failures for row in rows),
        drop_reasons=dict(sorted(reasons.items())),
    )


def evaluation_metrics(result: EvaluationResult) -> dict[str, float]:
    """What the log of a training run keeps of an evaluation (`training/metrics.py`), task by task."""
    found: dict[str, float] = {}
    for task, summary in result.tasks.items():
        figures = {
            "accuracy": summary.accuracy.value,
            "format": summary.format_rate,
            "tokens": summary.length_mean,
            "truncated": summary.truncated_fraction,
            **({"dropped": float(summary.dropped)} if summary.dropped else {}),
            **{name: interval.value for name, interval in summary.measures.items()},
        }
        found |= {f"eval/{task}_{name}": value for name, value in figures.items()}
    return found
