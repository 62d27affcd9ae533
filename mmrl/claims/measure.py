"""From the run folders of one arm and seed to one number. None: this arm has no such number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from mmrl.claims.schema import Counted, Evaluated, MeasureEntry, Reduced
from mmrl.claims.spent import Spent, summed
from mmrl.claims.unit import TRAINED, Replication, read_evaluation, read_trained
from mmrl.evaluation.result import SampleRow
from mmrl.training.metrics import read_metrics

CONSISTENT = "consistent"  # of evaluation/measures.py
ROW_FIELDS = {"format": "format", "length": "tokens", "truncated": "truncated"}


def measured(replication: Replication, entry: MeasureEntry, *, seed: int, arm: str) -> float | None:
    """The number of a measure."""
    folders = replication.folders(seed, arm)
    if entry.evaluated is not None:
        values = [_evaluated(folders[-1], name, entry.evaluated, entry.task) for name in entry.on]
        return fmean(values)
    if entry.forgotten is not None:
        return _forgotten(replication, arm, folders, entry.forgotten)
    if entry.logged is not None:
        return _logged(folders[-1], entry.logged, entry.minus, entry.over, entry.reduce)
    steps = [step for folder in folders if (folder / TRAINED).is_file() for step in read_trained(folder).steps]
    if entry.reached is not None:
        assert entry.value is not None
        return _reached(folders[-1], entry.reached, entry.value, entry.counts)
    assert entry.spent is not None
    return counted(steps, entry.spent)


def counted(steps: list[Spent], what: Counted) -> float:
    """What was spent over some steps."""
    total: float = getattr(summed(steps), what)
    return total


def evaluation_figure(rows: Sequence[SampleRow], figure: Evaluated, task: str | None = None) -> float:
    """One figure of greedy answers. Accuracy is of all samples, the others of those that were answered (0: none).

    consistency: share of answers with a reasoning that concludes with them (`evaluation/measures.py`, consistent). An
    answer without any reasoning is none of them.
    """
    chosen = [row for row in rows if task is None or row.task == task]
    if figure == "accuracy":
        return fmean(row.accuracy for row in chosen) if chosen else math.nan
    answered = [row for row in chosen if row.dropped is None]
    if not answered:
        return 0.0
    if figure == "consistency":
        return fmean(row.measures.get(CONSISTENT, 0.0) for row in answered)
    return fmean(getattr(row, ROW_FIELDS[figure]) for row in answered)


def reduced(values: Sequence[float], how: Reduced) -> float | None:
    """Steps as one number; None where there are none (std: fewer than two)."""
    if not values or (how == "std" and len(values) < 2):
        return None
    if how == "mean":
        return fmean(values)
    if how == "std":
        return stdev(values)
    if how == "sum":
        return math.fsum(values)
    return {"last": values[-1], "lowest": min(values), "highest": max(values)}[how]


def _evaluated(folder: Path, name: str, figure: Evaluated, task: str | None) -> float:
    return evaluation_figure(read_evaluation(folder, name).rows, figure, task)


def _forgotten(replication: Replication, arm: str, folders: Sequence[Path], figure: Evaluated) -> float | None:
    """Mean over all stages but the last: the figure on the stage's own data right after it, minus that at the end."""
    stages = replication.stages(arm)
    falls = []
    for folder, stage in zip(folders[:-1], stages[:-1], strict=True) if len(stages) > 1 else ():
        for name, entry in replication.claim.evaluations.items():
            if entry.data == replication.claim.data_of(stage):
                then, at_the_end = (_evaluated(f, name, figure, None) for f in (folder, folders[-1]))
                falls.append(then - at_the_end)
    return fmean(falls) if falls else None


def _logged(folder: Path, name: str, minus: str | None, over: tuple[float, float], how: Reduced) -> float | None:
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    rows = read_metrics(path)
    first, last = math.floor(over[0] * len(rows)), math.ceil(over[1] * len(rows))
    wanted = [name] if minus is None else [name, minus]
    chosen = [row for row in rows[first:last] if all(key in row and math.isfinite(row[key]) for key in wanted)]
    return reduced([row[name] - (row[minus] if minus else 0.0) for row in chosen], how)


def _reached(folder: Path, name: str, value: float, counts: Counted) -> float | None:
    """Spent up to and including the first step that logged at least `value`; where none did, all: a lower bound."""
    path = folder / "metrics.jsonl"
    if not path.is_file() or not (folder / TRAINED).is_file():
        return None
    rows = read_metrics(path)
    if not any(name in row for row in rows):
        return None
    steps = read_trained(folder).steps
    there = next((number for number, row in enumerate(rows) if row.get(name, -math.inf) >= value), len(rows) - 1)
    return counted(steps[: there + 1], counts)
