"""Curves over steps as inline SVG: no script, colours from the page's style, values on hover as titles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from mmrl.training.metrics import METRICS

_WIDTH, _HEIGHT = 380, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 26
_MOST_POINTS = 120  # per curve; longer runs are averaged in buckets
_SMOOTH_FROM = 20  # points; shorter curves are drawn as they are

Rows = Sequence[Mapping[str, float]]  # per step: its metrics, as the log has them
_Scale = Callable[[float], float]  # a step or a value → its place in the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Which metrics share a picture."""

    title: str
    unit: str
    series: Mapping[str, str]  # metric → its label; three at most
    bounded: bool = False  # the axis is 0 … 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One metric, ready to be drawn."""

    label: str
    colour: int  # 1 … 3: its place in the chart, whichever of the others were measured
    last: str  # the value it ends with
    points: tuple[tuple[float, float], ...]  # (step, value)
    smooth: tuple[tuple[float, float], ...]  # the same, averaged over a window; empty: too few points


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chart of the page."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    svg: Markup
    readings: tuple[str, ...]  # how to read its metrics, from the table of metrics


CHARTS = (
    Chart(
        title="Accuracy and form",
        unit="fraction of sampled completions",
        series={"reward/accuracy_mean": "accuracy", "reward/format_mean": "format"},
        bounded=True,
    ),
    Chart(title="Reward", unit="mean total", series={"reward/total_mean": "total"}),
    Chart(
        title="Length",
        unit="tokens",
        series={
            "rollout/length_mean": "all",
            "rollout/length_correct_mean": "correct",
            "rollout/length_wrong_mean": "wrong",
        },
    ),
    Chart(
        title="What there is to learn",
        unit="fraction of groups",
        series={
            "group/no_signal_fraction": "no signal",
            "group/all_correct_fraction": "all correct",
            "group/all_wrong_fraction": "all wrong",
        },
        bounded=True,
    ),
    Chart(title="Entropy", unit="nats per token", series={"policy/entropy_mean": "entropy"}),
    Chart(title="Distance from the reference", unit="nats per token", series={"policy/kl_mean": "KL"}),
    Chart(title="Gradient norm", unit="before limiting", series={"optim/grad_norm": "norm"}),
)
COLD_START = Chart(title="Cold start", unit="loss, nats per target token", series={"sft/loss": "loss"})


def draw_charts(rows: Rows, *, cold_start: Rows = ()) -> list[Drawn]:
    """The charts that have something to show; validation accuracy per task and the cold start last."""
    tasks = sorted({name for row in rows for name in row if name.startswith("eval/") and name.endswith("_accuracy")})
    validation = [
        Chart(
            title="Validation accuracy",
            unit="greedy",
            series={name: name.removeprefix("eval/").removesuffix("_accuracy") for name in tasks[i : i + 3]},
            bounded=True,
        )
        for i in range(0, len(tasks), 3)
    ]
    drawn = []
    sources = [*[(chart, rows) for chart in (*CHARTS, *validation)], (COLD_START, cold_start)]
    for chart, rows in sources:
        curves = [_curve(rows, name, label, i) for i, (name, label) in enumerate(chart.series.items(), start=1)]
        present = tuple(curve for curve in curves if curve.points)
        if present:
            readings = tuple(METRICS[name].reading for name in chart.series if name in METRICS)
            svg = _svg(chart, present)
            drawn.append(Drawn(title=chart.title, unit=chart.unit, curves=present, svg=svg, readings=readings))
    return drawn


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose [low, high], about `count` intervals."""
    if not high > low:
        margin = abs(low) * 0.1 or 0.5
        low, high = low - margin, high + margin
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _curve(rows: Rows, name: str, label: str, colour: int) -> Curve:
    measured = [(row["step"], row[name]) for row in rows if name in row and math.isfinite(row[name])]
    size = -(-len(measured) // _MOST_POINTS) or 1
    buckets = [measured[i : i + size] for i in range(0, len(measured), size)]
    points = tuple((fmean(step for step, _ in bucket), fmean(value for _, value in bucket)) for bucket in buckets)
    smooth: tuple[tuple[float, float], ...] = ()
    if len(points) >= _SMOOTH_FROM:
        reach = len(points) // 20
        windows = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
        smooth = tuple((points[i][0], fmean(value for _, value in window)) for i, window in enumerate(windows))
    ends = smooth or points
    return Curve(label=label, colour=colour, last=_short(ends[-1][1]) if ends else "", points=points, smooth=smooth)


def _svg(chart: Chart, curves: Sequence[Curve]) -> Markup:
    steps = [step for curve in curves for step, _ in curve.points]
    values = [value for curve in curves for _, value in curve.points]
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0] if chart.bounded else nice_ticks(min(values), max(values))
    first, last = min(steps), max(steps)
    bottom, top = ticks[0], ticks[-1]

    def x(step: float) -> float:
        share = (step - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_TOP + (top - value) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [
        Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{} over steps, ending at {}">').format(
            "several" if len(curves) > 1 else "single",
            _WIDTH,
            _HEIGHT,
            chart.title,
            ", ".join(f"{curve.label} {curve.last}" for curve in curves),
        )
    ]
    for tick in ticks:
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _LEFT, _WIDTH - _RIGHT, y(tick), y(tick)
            )
        )
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
                _LEFT - 6, y(tick) + 3.5, _short(tick)
            )
        )
    for step, anchor in ((first, "start"), (last, "end")) if last > first else ((first, "middle"),):
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">step {:g}</text>').format(
                x(step), _HEIGHT - 8, anchor, step
            )
        )
    for curve in curves:
        if curve.smooth:
            parts.append(_line(curve.points, f"raw s{curve.colour}", x, y))
        parts.append(_line(curve.smooth or curve.points, f"line s{curve.colour}", x, y))
    parts += _hover(curves, x)
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _line(points: Sequence[tuple[float, float]], style: str, x: _Scale, y: _Scale) -> Markup:
    if len(points) == 1:
        return Markup('<circle class="{}" cx="{}" cy="{}" r="3.5"/>').format(style, x(points[0][0]), y(points[0][1]))
    path = " ".join(f"{x(step)},{y(value)}" for step, value in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, path)


def _hover(curves: Sequence[Curve], x: _Scale) -> list[Markup]:
    """A strip per step whose title is what a browser shows under the pointer."""
    at: dict[float, list[str]] = {}
    for curve in curves:
        for step, value in curve.points:
            at.setdefault(step, []).append(f"{curve.label} {_short(value)}")
    width = round((_WIDTH - _LEFT - _RIGHT) / max(len(at), 1), 1)
    return [
        Markup('<rect class="hover" x="{}" y="{}" width="{}" height="{}"><title>step {:g}: {}</title></rect>').format(
            round(x(step) - width / 2, 1), _TOP, width, _HEIGHT - _TOP - _BOTTOM, step, ", ".join(labels)
        )
        for step, labels in sorted(at.items())
    ]


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
