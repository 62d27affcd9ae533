"""Reads what a run left in its folder. A part that is missing or damaged is named, and the rest is still read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mmrl.errors import RunError
from mmrl.evaluation.result import EvaluationResult, read_result
from mmrl.traces.reader import TraceReader
from mmrl.training.metrics import read_metrics
from mmrl.training.watcher import FILE as WARNINGS
from mmrl.training.watcher import Warned, read_warnings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """What a report is made of."""

    name: str  # of the run: its folder's name
    config: str  # config.yaml as it stands; empty: missing
    cold_start: tuple[dict[str, float], ...]  # per step; empty: the run had no cold start
    metrics: tuple[dict[str, float], ...]  # per step; empty: missing
    before: EvaluationResult | None  # of the model that RL began with
    after: EvaluationResult | None  # of the model it ended with
    untrained: Mapping[str, tuple[EvaluationResult, EvaluationResult]]  # name → before, after, on what is not trained
    warnings: tuple[Warned, ...]  # trouble the watcher saw, in order
    traces: TraceReader
    missing: tuple[str, ...]  # one sentence per part that the report has to do without


def read_run_folder(run_dir: Path) -> RunFolder:
    """Reads everything but the traces, which are looked into where they are needed."""
    traces = TraceReader(run_dir)  # says so where there is no such folder
    missing: list[str] = []
    no_rows: list[dict[str, float]] = []

    def part(path: str, what: str, read: Callable[[Path], T], otherwise: T) -> T:
        try:
            return read(run_dir / path)
        except FileNotFoundError:
            missing.append(f"{path} is not there: {what}.")
        except RunError as error:
            missing.append(f"{path} cannot be used: {what}. {error}")
        return otherwise

    config = part("config.yaml", "the settings of the run are unknown", lambda p: p.read_text(encoding="utf-8"), "")
    cold_start = no_rows
    if (run_dir / "cold_start.jsonl").exists():
        cold_start = part("cold_start.jsonl", "there is no curve of the cold start", read_metrics, no_rows)
    metrics = part("metrics.jsonl", "there are no curves", read_metrics, no_rows)
    no_warnings: list[Warned] = []
    warnings = part(WARNINGS, "what the watcher saw is unknown", lambda p: read_warnings(p.parent), no_warnings)
    before = part("evaluation/before.json", "there is nothing to compare with", _result, None)
    after = part("evaluation/after.json", "the trained model was not evaluated", _result, None)
    untrained = {}
    for path in sorted((run_dir / "evaluation").glob("untrained_*_before.json")):
        name = path.stem.removeprefix("untrained_").removesuffix("_before")
        what = f"what became of {name}, which is not trained, is unknown"
        sides = [part(f"evaluation/untrained_{name}_{when}.json", what, _result, None) for when in ("before", "after")]
        if sides[0] is not None and sides[1] is not None:
            untrained[name] = (sides[0], sides[1])
    if not traces.steps():
        missing.append("traces/ holds no step: there are no completions to show.")
    return RunFolder(
        name=run_dir.resolve().name,
        config=config,
        cold_start=tuple(cold_start),
        metrics=tuple(metrics),
        before=before,
        after=after,
        untrained=untrained,
        warnings=tuple(warnings),
        traces=traces,
        missing=tuple(missing),
    )


def _result(path: Path) -> EvaluationResult | None:
    return read_result(path)
