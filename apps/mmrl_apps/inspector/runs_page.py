"""Curves of one or several runs, the watcher's warnings on their time axis, and how the configs differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.errors import RunError
from mmrl.training.metrics import METRICS, metric, read_metrics
from mmrl.training.watcher import Warned, read_warnings
from mmrl_apps.shared.markup import fragment, message

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from mmrl_apps.inspector.inspector import OpenRun

FIRST_SHOWN = ("reward/accuracy_mean", "reward/total_mean", "rollout/length_mean", "policy/entropy_mean")
AXES = {"step": "step", "samples seen": "train/prompts_seen"}
_COLOURS = ("#3b8eea", "#e4762b", "#5aa02c", "#b55fe6", "#e0447c", "#16a3a3", "#c59a10", "#9a7b63")
_MOST_POINTS = 4000  # of one curve
_HEIGHT = 250  # pixels of one chart

_NAMES = ("run.name", "run.folder")  # differ between any two runs, and say nothing of either
_USUAL = (("timeout_seconds", 5.0), ("on_failure", "zero"))  # of a reward: not worth a line in the differences

Rows = tuple[Mapping[str, float], ...]


def rows_of(run: OpenRun) -> Rows:
    """The run's metrics, read again when the file changes; empty where there is none yet or it is damaged."""
    path = run.folder / "metrics.jsonl"
    try:
        status = path.stat()
        return _read(path, status.st_size, status.st_mtime_ns)
    except (OSError, RunError):
        return ()


def damage(run: OpenRun) -> str:
    """Why the run's metrics cannot be read; empty where they can, or there are none yet."""
    path = run.folder / "metrics.jsonl"
    try:
        read_metrics(path) if path.is_file() and not rows_of(run) else ()
    except (OSError, RunError) as error:
        return str(error)
    return ""


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> Rows:
    return tuple(read_metrics(path))


def metric_names(runs: Sequence[OpenRun]) -> list[str]:
    """Every metric that some of the runs logged, in the order of the table of metrics."""
    found = {name for run in runs for row in rows_of(run)[-200:] for name in row if name != "step"}
    order = {name.partition("/")[0]: place for place, name in reversed(list(enumerate(METRICS)))}
    return sorted(found, key=lambda name: (order.get(name.partition("/")[0], 999), name))


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average whose start is not pulled to 0: sᵢ = Σ wʲ xᵢ₋ⱼ / Σ wʲ. weight 0: the values."""
    out: list[float] = []
    total = count = 0.0
    for value in values:
        if math.isfinite(value):
            total, count = total * weight + value, count * weight + 1.0
        out.append(total / count if count else math.nan)
    return out


def figure(
    runs: Sequence[OpenRun], metrics: Sequence[str], *, smoothing: float = 0.0, axis: str = "step"
) -> Figure | None:
    """One chart per metric, one curve per run; None where there is nothing to draw."""
    metrics = [name for name in metrics if any(name in row for run in runs for row in rows_of(run))]
    if not metrics:
        return None
    from plotly.subplots import make_subplots

    weight = min(max(float(smoothing), 0.0), 0.999)
    columns = 2 if len(metrics) > 1 else 1
    lines = -(-len(metrics) // columns)
    gap = min(0.14, 60 / (_HEIGHT * lines))
    chart = make_subplots(
        rows=lines, cols=columns, subplot_titles=metrics, vertical_spacing=gap, horizontal_spacing=0.08
    )
    for place, name in enumerate(metrics):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for which, run in enumerate(runs):
            colour = _COLOURS[which % len(_COLOURS)]
            steps, values = _curve(run, name, axis)
            if not steps:
                continue
            named = {"legendgroup": run.name, "name": run.name, "showlegend": place == 0}
            if weight:
                chart.add_scatter(
                    x=steps,
                    y=values,
                    mode="lines",
                    line={"color": colour, "width": 1},
                    opacity=0.25,
                    hoverinfo="skip",
                    **{**named, "showlegend": False},
                    **where,
                )
            chart.add_scatter(
                x=steps,
                y=smoothed(values, weight),
                mode="lines+markers" if len(steps) < 40 else "lines",
                line={"color": colour, "width": 2},
                marker={"size": 4},
                **named,
                **where,
            )
            for warning, at in _warned(run, axis):
                chart.add_vline(x=at, line={"color": colour, "width": 1, "dash": "dash"}, **where)
                chart.add_scatter(
                    x=[at],
                    y=[max((v for v in values if math.isfinite(v)), default=0.0)],
                    mode="markers",
                    marker={"symbol": "triangle-down", "size": 10, "color": colour},
                    hoverinfo="text",
                    hovertext=f"{warning.trouble}: {warning.message}",
                    **{**named, "showlegend": False},
                    **where,
                )
        chart.update_xaxes(title_text=axis if place >= len(metrics) - columns else "", **where)
    grid = "rgba(128, 128, 128, 0.25)"
    chart.update_xaxes(gridcolor=grid, zerolinecolor=grid)
    chart.update_yaxes(gridcolor=grid, zerolinecolor=grid)
    chart.update_layout(
        height=_HEIGHT * lines + 120,
        margin={"l": 50, "r": 16, "t": 80, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#808087", "family": "system-ui, sans-serif"},
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
        showlegend=True,
        hovermode="closest",
    )
    return chart


def readings_html(metrics: Sequence[str]) -> str:
    """How to read the chosen metrics, from the table of metrics."""
    known = []
    for name in metrics:
        try:
            known.append((name, metric(name)))
        except RunError:
            continue
    return fragment("readings.html.j2", metrics=known) if known else ""


def warnings_html(runs: Sequence[OpenRun]) -> str:
    """What the watcher saw, with what to try."""
    found: list[tuple[str, Warned]] = []
    broken: list[str] = []
    for run in runs:
        broken += [why] if (why := damage(run)) else []
        try:
            found += [(run.name, warning) for warning in read_warnings(run.folder)]
        except RunError as error:
            broken.append(str(error))
    return fragment("warnings.html.j2", warnings=found, broken=broken)


def differences_html(runs: Sequence[OpenRun]) -> str:
    """Keys of the configs whose values differ between the runs."""
    if len(runs) < 2:
        return message("Choose two runs or more to see how their configs differ.")
    flat = [dict(_flat(run.config())) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values if key not in _NAMES)
    rows = []
    for key in keys:
        values = [values.get(key, "–") for values in flat]
        if any(value != values[0] for value in values):
            rows.append((key, values))
    if not rows:
        return message("The configs of these runs are equal.")
    return fragment("differences.html.j2", names=[run.name for run in runs], rows=rows)


def _curve(run: OpenRun, name: str, axis: str) -> tuple[list[float], list[float]]:
    key = AXES.get(axis, "step")
    pairs = [(row[key], row[name]) for row in rows_of(run) if name in row and key in row]
    stride = -(-len(pairs) // _MOST_POINTS) or 1
    return [x for x, _ in pairs[::stride]], [y for _, y in pairs[::stride]]


def _warned(run: OpenRun, axis: str) -> Iterator[tuple[Warned, float]]:
    try:
        warnings = read_warnings(run.folder)
    except RunError:
        return
    places = {row["step"]: row.get(AXES.get(axis, "step")) for row in rows_of(run)}
    for warning in warnings:
        at = places.get(warning.step)
        if at is not None:
            yield warning, at


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for place, item in enumerate(value):
            said = {
                key: inner
                for key, inner in item.items()
                if inner not in (None, {}, False) and (key, inner) not in _USUAL
            }
            yield f"{path}[{place}]", ", ".join(f"{key}: {inner}" for key, inner in said.items())
    else:
        yield path, "–" if value is None else str(value)
