"""A chart of some values, and its picture (matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmrl.data.builders.worlds.world import Slot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP = 100  # values of charts with axes are below
_PALETTES = ("tab10", "Set2", "Dark2", "Set1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    kind: str
    names: tuple[str, ...]
    series: tuple[tuple[str, tuple[int, ...]], ...]  # (name, a value per name); a plain chart has one
    asked: int  # which of the series the question is about

    @property
    def values(self) -> tuple[int, ...]:
        return self.series[self.asked][1]

    @property
    def of_series(self) -> str:
        return f" of {self.series[self.asked][0]}" if len(self.series) > 1 else ""


def draw_chart(chart: Chart, slot: Slot, width: int) -> bytes:
    """The PNG. Without pyplot, without the user's matplotlibrc, and without a date in the file."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dice = slot.random
    points = 5.2 if len(chart.names) > 5 else 6.0
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "font.size": points, "axes.linewidth": 0.5}):
        figure = Figure(figsize=(2.24, 1.68), dpi=width / 2.24)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if chart.kind != "pie":
            figure.subplots_adjust(left=0.19, right=0.97, top=0.88, bottom=0.18)
        palette = matplotlib.colormaps[dice.choice(_PALETTES)]
        colours = [palette(i) for i in range(8)]
        {"bar": _bars, "line": _lines, "pie": _slices}[chart.kind](axes, chart, slot, colours)
        if chart.kind != "pie":
            _scale(axes, slot)
            if len(chart.series) > 1:
                axes.legend(fontsize=points, loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=2, frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _bars(axes: Axes, chart: Chart, slot: Slot, colours: Sequence[Any]) -> None:
    lying = slot.random.random() < 0.3
    wide = 0.7 / len(chart.series)
    for index, (name, values) in enumerate(chart.series):
        places = [i + (index - (len(chart.series) - 1) / 2) * wide for i in range(len(values))]
        colour = colours[index] if slot.hard or slot.random.random() < 0.6 else colours[: len(values)]
        bars = axes.barh if lying else axes.bar
        drawn = bars(places, values, wide, label=name, color=colour)
        if not slot.hard:
            axes.bar_label(drawn, padding=1)
    ticks = list(range(len(chart.names)))
    if lying:
        axes.set_yticks(ticks, chart.names)
    else:
        axes.set_xticks(ticks, chart.names, rotation=30 if len(chart.names) > 5 else 0)


def _lines(axes: Axes, chart: Chart, slot: Slot, colours: Sequence[Any]) -> None:
    for index, (name, values) in enumerate(chart.series):
        axes.plot(
            range(len(values)), values, marker="os"[index], markersize=2.5, lw=1, color=colours[index], label=name
        )
        for place, value in enumerate(values if not slot.hard else ()):
            axes.annotate(str(value), (place, value), xytext=(0, 3), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(chart.names)), chart.names, rotation=30 if len(chart.names) > 5 else 0)
    axes.margins(x=0.1)


def _slices(axes: Axes, chart: Chart, slot: Slot, colours: Sequence[Any]) -> None:
    written = None if slot.hard else "%d%%"
    axes.pie(
        chart.values,
        labels=chart.names,
        colors=list(colours),
        autopct=written,
        startangle=slot.random.randrange(0, 360, 15),
        pctdistance=0.65,
        wedgeprops={"linewidth": 0.5, "edgecolor": "white"},
    )


def _scale(axes: Axes, slot: Slot) -> None:
    lying = axes.get_ylim()[1] < 20 and axes.get_xlim()[1] > 20  # bars that lie: their values run along x
    axis = axes.xaxis if lying else axes.yaxis
    (axes.set_xlim if lying else axes.set_ylim)(0, TOP + 10)
    axis.set_ticks(range(0, TOP + 10, 10 if slot.hard else 20))
    axis.grid(True, linewidth=0.3, color="0.8")
    axes.set_axisbelow(True)
    axes.tick_params(width=0.4, length=1.5, pad=1)
