"""The page: values into a template that escapes every one of them. It holds no script and loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mmrl.evaluation.compare import Comparison, TaskComparison, compare
from mmrl.evaluation.estimators import Interval
from mmrl.evaluation.result import EvaluationResult, SampleRow, TaskSummary
from mmrl.evaluation.table import notes, p_value, percent, points, with_interval
from mmrl.report.completions import segments, view_group
from mmrl.report.curves import draw_charts
from mmrl.report.picks import Pick
from mmrl.report.run_folder import RunFolder

_MOST_FLIPS = 12  # samples listed that were right before and wrong after


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An accuracy with its interval, as places on a scale of 0–100."""

    label: str
    text: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task (or all together) before and after."""

    name: str
    samples: int
    bars: tuple[Bar, ...]  # before, after: those that exist
    difference: str  # "" without a comparison
    verdict: str  # p-value and flips in words
    figures: tuple[tuple[str, tuple[str, ...]], ...]  # name → one value per bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A sample that the trained model answers wrongly and the former one did not."""

    id: str
    task: str
    before: str
    after: str


def render_page(
    run: RunFolder, comparison: Comparison | None, picks: Sequence[Pick], summary: Mapping[str, Any]
) -> str:
    """The whole HTML document. `summary` is the body of report.json."""
    environment = Environment(
        loader=PackageLoader("mmrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    results = [result for result in (run.before, run.after) if result]
    return environment.get_template("report.html.j2").render(
        run=run,
        tasks=_tasks(run, comparison),
        untrained=[
            _task(name, {"before": before.overall, "after": after.overall}, compare(before, after).overall)
            for name, (before, after) in run.untrained.items()
        ],
        confidence=" and ".join(sorted({f"{100 * result.settings.confidence:g} %" for result in results})),
        charts=draw_charts(run.metrics, cold_start=run.cold_start),
        groups=[view_group(pick) for pick in picks],
        lost=_lost(run, comparison),
        tiles=_tiles(summary),
        facts=list(_flat(summary["facts"])),
        hash=summary["config_sha256"] or "",
        notes=list(dict.fromkeys(note for result in results for note in notes(result))),
    )


def _tasks(run: RunFolder, comparison: Comparison | None) -> list[TaskView]:
    results = {label: result for label, result in (("before", run.before), ("after", run.after)) if result}
    names = list(dict.fromkeys(name for result in results.values() for name in result.tasks))
    views = [
        _task(
            name,
            {label: result.tasks[name] for label, result in results.items() if name in result.tasks},
            comparison.tasks.get(name) if comparison else None,
        )
        for name in names
    ]
    if len(names) > 1:
        overall = {label: result.overall for label, result in results.items()}
        views.insert(0, _task("all tasks", overall, comparison.overall if comparison else None))
    return views


def _task(name: str, sides: Mapping[str, TaskSummary], paired: TaskComparison | None) -> TaskView:
    summaries = list(sides.values())
    figures: list[tuple[str, tuple[str, ...]]] = [
        ("accuracy of sampled completions", tuple(_maybe(summary.sampled_accuracy) for summary in summaries))
    ]
    for k in sorted({k for summary in summaries for k in summary.pass_at}):
        figures.append((f"pass@{k}", tuple(_maybe(summary.pass_at.get(k)) for summary in summaries)))
    for k in sorted({k for summary in summaries for k in summary.majority_at if k > 1}):
        figures.append((f"majority@{k}", tuple(_maybe(summary.majority_at.get(k)) for summary in summaries)))
    for measure in dict.fromkeys(name for summary in summaries for name in summary.measures):
        figures.append((measure, tuple(_maybe(summary.measures.get(measure)) for summary in summaries)))
    figures += [
        ("format kept", tuple(percent(summary.format_rate) for summary in summaries)),
        ("length, tokens", tuple(f"{summary.length_mean:.1f}" for summary in summaries)),
        ("truncated", tuple(percent(summary.truncated_fraction) for summary in summaries)),
        ("samples dropped", tuple(str(summary.dropped) for summary in summaries)),
    ]
    return TaskView(
        name=name,
        samples=max(summary.samples for summary in summaries),
        bars=tuple(_bar(label, summary.accuracy) for label, summary in sides.items()),
        difference=f"{points(paired.difference)} points" if paired else "",
        verdict=_verdict(paired) if paired else "",
        figures=tuple(figures),
    )


def _bar(label: str, accuracy: Interval) -> Bar:
    low, value, high = (round(100 * end, 2) for end in (accuracy.low, accuracy.value, accuracy.high))
    return Bar(label=label, text=with_interval(accuracy), value=value, low=low, high=high)


def _verdict(paired: TaskComparison) -> str:
    p = p_value(paired.p_value)
    flips = p_value(paired.mcnemar_p_value)
    return (
        f"p {p if p.startswith('<') else f'= {p}'}; {len(paired.won)} samples won, {len(paired.lost)} lost (McNemar p "
        f"{flips if flips.startswith('<') else f'= {flips}'})"
    )


def _maybe(interval: Interval | None) -> str:
    """Lines may break between the value and its interval, and nowhere else."""
    return with_interval(interval).replace(" %", "\u00a0%").replace(", ", ",\u00a0") if interval else "–"


def _lost(run: RunFolder, comparison: Comparison | None) -> list[Flip]:
    if comparison is None or run.before is None or run.after is None:
        return []
    before, after = _rows(run.before), _rows(run.after)
    return [
        Flip(
            id=sample_id,
            task=after[sample_id].task,
            before=_answer_of(before[sample_id]),
            after=_answer_of(after[sample_id]),
        )
        for sample_id in comparison.overall.lost[:_MOST_FLIPS]
    ]


def _rows(result: EvaluationResult) -> dict[str, SampleRow]:
    return {row.id: row for row in result.rows}


def _answer_of(row: SampleRow) -> str:
    """The answer where there is one, otherwise all of the text, or why there is none."""
    if row.dropped is not None:
        return f"dropped: {row.dropped.reason}"
    answers = [segment.text for segment in segments(row.text) if segment.kind == "answer"]
    return answers[-1] if answers else row.text


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run cost: (what, how much)."""
    facts, training = summary["facts"], summary["training"]
    tiles = []
    if training is not None:
        tiles.append(("steps of reinforcement", f"{training['steps']:,}"))
    stages = facts.get("stages")
    stages = stages if isinstance(stages, Mapping) else {}
    if stages:
        tiles.append(("in all", _duration(sum(stage["seconds"] for stage in stages.values()))))
        tiles += [(name.replace("_", " "), _duration(stage["seconds"])) for name, stage in stages.items()]
    peak = max((stage["peak_mib"] for stage in stages.values()), default=(training or {}).get("peak_mib"))
    if peak:
        tiles.append(("peak memory", f"{peak / 1024:.2f} GiB"))
    return tiles


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (dotted name, text)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, ", ".join(str(item) for item in value)
    else:
        yield path, f"{value:,.6g}" if isinstance(value, float) else str(value)
