"""The plot of a claim: a panel per measure, every seed as a thin line through the arms, means with their intervals."""

from __future__ import annotations

import io

from mmrl.claims.results import ClaimResults, StoredNumbers
from mmrl.errors import ConfigError

PANEL_WIDTH, PANEL_HEIGHT, ACROSS = 3.2, 2.6, 3  # inches, panels in a row
INK, PALE = "#1f5a8a", "#b8c7d6"


def check_can_plot() -> None:
    """ConfigError where matplotlib is missing: said before hours are spent, not after."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ConfigError("the plot of a claim is drawn by matplotlib: pip install 'mmrl[data]'")


def plot_svg(results: ClaimResults) -> str:
    """The SVG; the same results give the same text."""
    check_can_plot()
    import matplotlib
    from matplotlib.figure import Figure

    measures = [name for name in results.claim.measures if _measured(results, name)]
    down = -(-len(measures) // ACROSS)
    across = min(len(measures), ACROSS)
    with matplotlib.rc_context({"svg.hashsalt": results.claim.name, "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(PANEL_WIDTH * across, PANEL_HEIGHT * down), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).flatten()
        for panel in panels[len(measures) :]:
            panel.set_axis_off()
        for panel, name in zip(panels, measures, strict=False):
            entry = results.claim.measures[name]
            factor = 100 if entry.percent else 1
            arms = [arm for arm, stored in results.arms.items() if stored.measures[name].mean is not None]
            found: list[StoredNumbers] = [results.arms[arm].measures[name] for arm in arms]
            places = range(len(arms))
            for seed in results.seeds:
                values = [numbers.seeds.get(seed) for numbers in found]
                heights = [float("nan") if value is None else factor * value for value in values]
                panel.plot(places, heights, color=PALE, linewidth=0.8, marker=".", markersize=3)
            for place, numbers in zip(places, found, strict=True):
                assert numbers.mean is not None
                interval = numbers.interval
                if interval is not None:
                    panel.vlines(place, factor * interval.low, factor * interval.high, color=INK, linewidth=1.6)
                panel.plot(place, factor * numbers.mean, color=INK, marker="o", markersize=4.5)
            panel.set_xticks(list(places), arms, rotation=30, ha="right")
            panel.set_xlim(-0.5, len(arms) - 0.5)
            panel.set_title(f"{name}{' (%)' if entry.percent else ''}", fontsize=9)
            panel.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _measured(results: ClaimResults, name: str) -> bool:
    return any(arm.measures[name].mean is not None for arm in results.arms.values())
