"""The figures of a manifest as one page with plots (matplotlib); needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from mmrl.curation.stats import Stats
from mmrl.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1c1c1c; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; } td + td { text-align: right; } img { max-width: 30rem; }
"""
_BARS = 20  # most bars of a plot; the rest are one bar
_BINS = 40


def stats_page(stats: Stats) -> bytes:
    """The page. A ConfigError where matplotlib is not installed."""
    tables = {
        "task": stats.tasks,
        "answer type": stats.answer_types,
        "split": stats.splits,
        "media": stats.media,
        "options": stats.options,
        "right option": stats.letters,
        **{f"answers of {task}": answers for task, answers in stats.answers.items()},
        "broken media": stats.broken,
    }
    plots = [_bars(name, counts) for name, counts in tables.items() if counts]
    plots += [_histogram(name, values) for name, values in stats.histograms.items() if len(values) > 1]
    head = f"{escape(str(stats.path))}: {stats.samples} samples, {stats.files} media files"
    rows = "".join(
        f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{value:,.6g}</td>" for value in figures.values()) + "</tr>"
        for name, figures in stats.quantities.items()
    )
    names = next(iter(stats.quantities.values()), {})
    titles = "".join(f"<th>{escape(name)}</th>" for name in names)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(str(stats.path))}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{head}</h1>\n<table><tr><th></th>{titles}</tr>{rows}</table>\n"
        f'<div class="plots">{"".join(plots)}</div></body></html>\n'
    )
    return page.encode("utf-8")


def _bars(name: str, counts: Mapping[str, int]) -> str:
    shown = list(counts.items())[:_BARS]
    rest = sum(counts.values()) - sum(count for _, count in shown)
    if rest:
        shown.append((f"{len(counts) - _BARS} others", rest))

    def draw(axes: Axes) -> None:
        axes.barh([_short(label) for label, _ in shown][::-1], [count for _, count in shown][::-1], color="#3b6ea5")

    return _plot(name, draw, height=0.8 + 0.24 * len(shown))


def _histogram(name: str, values: Mapping[float, int]) -> str:
    def draw(axes: Axes) -> None:
        axes.hist(list(values), weights=list(values.values()), bins=_BINS, color="#3b6ea5")

    return _plot(name, draw, height=2.4)


def _plot(name: str, draw: object, *, height: float) -> str:
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import AutoLocator, MaxNLocator
    except ImportError:
        raise ConfigError("the page of `stats` is drawn by matplotlib: pip install 'mmrl[data]'") from None
    figure = Figure(figsize=(5, height), layout="constrained")
    axes = figure.subplots()
    assert callable(draw)
    draw(axes)
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_locator(), AutoLocator):  # not where labels stand
            axis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_title(name, fontsize=10)
    axes.tick_params(labelsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90, metadata={"Software": None})
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">\n'


def _short(text: str) -> str:
    plain = "".join(c if c.isprintable() and c not in "$\\" else " " for c in text)  # $ would begin a formula
    return plain if len(plain) <= 24 else plain[:23] + "…"
