"""The numbers of a run: the body of report.json."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from mmrl.evaluation.compare import Comparison, TaskComparison, compare
from mmrl.evaluation.result import TaskSummary
from mmrl.report.run_folder import RunFolder
from mmrl.traces.codec import plain

SCHEMA = 1  # of report.json


def summarise_run(run: RunFolder, comparison: Comparison | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values: per task before and after, both stages from first to last step, times, memory, and the facts.

    {"schema", "run", "config_sha256", "overall", "tasks", "untrained", "cold_start", "training", "warnings", "facts",
    "missing"}, where `overall` and each of `tasks` and `untrained` (what the run does not train) is {"before", "after",
    "comparison"}: null where it is missing.
    """
    names = dict.fromkeys(
        name for result in (run.before, run.after) if result is not None for name in result.tasks
    )  # in order of first appearance
    body = {
        "schema": SCHEMA,
        "run": run.name,
        "config_sha256": hashlib.sha256(run.config.encode()).hexdigest() if run.config else None,
        "overall": _side_by_side(
            run.before.overall if run.before else None,
            run.after.overall if run.after else None,
            comparison.overall if comparison else None,
        ),
        "tasks": {
            name: _side_by_side(
                run.before.tasks.get(name) if run.before else None,
                run.after.tasks.get(name) if run.after else None,
                comparison.tasks.get(name) if comparison else None,
            )
            for name in names
        },
        "untrained": {
            name: _side_by_side(before.overall, after.overall, compare(before, after).overall)
            for name, (before, after) in run.untrained.items()
        },
        "cold_start": _training(run.cold_start),
        "training": _training(run.metrics),
        "warnings": [asdict(warning) for warning in run.warnings],
        "facts": dict(facts),
        "missing": list(run.missing),
    }
    plainly: dict[str, Any] = plain(body)
    return plainly


def _side_by_side(
    before: TaskSummary | None, after: TaskSummary | None, comparison: TaskComparison | None
) -> dict[str, Any]:
    return {
        "before": asdict(before) if before else None,
        "after": asdict(after) if after else None,
        "comparison": asdict(comparison) if comparison else None,
    }


def _training(rows: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """Of every metric the mean over the first and the last tenth of the steps that have it; sums of times; the peak."""
    if not rows:
        return None
    names = sorted({name for row in rows for name in row} - {"step"})
    measured = {name: [row[name] for row in rows if name in row and math.isfinite(row[name])] for name in names}
    measured = {name: values for name, values in measured.items() if values}
    peaks = measured.get("memory/peak_mib")
    return {
        "steps": len(rows),
        "metrics": {
            name: {"first": fmean(values[: _tenth(values)]), "last": fmean(values[-_tenth(values) :])}
            for name, values in measured.items()
            if not name.startswith(("time/", "memory/"))
        },
        "seconds": {
            name.removeprefix("time/").removesuffix("_seconds"): sum(values)
            for name, values in measured.items()
            if name.startswith("time/") and name.endswith("_seconds")
        },
        "peak_mib": max(peaks) if peaks else None,
    }


def _tenth(values: Sequence[float]) -> int:
    return max(1, len(values) // 10)
