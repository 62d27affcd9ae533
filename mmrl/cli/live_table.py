"""The table under the training's bar on a terminal: what to look at first, now and over the last steps.

    step 41                    now   last 10   first 10
    reward/accuracy_mean      0.62      0.58       0.31
    policy/kl_mean          0.0041    0.0038     0.0002

It redraws in place and vanishes with the bar; everything is in metrics.jsonl.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import fmean

from rich.table import Table

WINDOW = 10  # steps
SHOWN = (
    "reward/total_mean",
    "reward/accuracy_mean",
    "reward/format_mean",
    "group/no_signal_fraction",
    "rollout/length_mean",
    "rollout/truncated_fraction",
    "policy/entropy_mean",
    "policy/kl_mean",
    "loss/clip_fraction",
    "optim/grad_norm",
    "time/step_seconds",
    "memory/peak_mib",
)
ALWAYS = ("eval/", "_accuracy")  # how names begin and end that are shown as soon as there is one, until the next


class LiveTable:
    """Remembers the figures of the first and the last steps of this process."""

    def __init__(self) -> None:
        self._first: list[Mapping[str, float]] = []
        self._last: deque[Mapping[str, float]] = deque(maxlen=WINDOW)
        self._evaluated: dict[str, float] = {}
        self._step = -1

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """The metrics of a step that is done."""
        self._step = step
        if len(self._first) < WINDOW:
            self._first.append(dict(figures))
        self._last.append(dict(figures))
        begin, end = ALWAYS
        self._evaluated |= {n: value for n, value in figures.items() if n.startswith(begin) and n.endswith(end)}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Name, now, mean of the last steps, mean of the first; empty before the first step."""
        if not self._last:
            return []
        named = [name for name in SHOWN if name in self._last[-1]]
        found = [
            (name, _figure(self._last[-1][name]), _mean(name, self._last), _mean(name, self._first)) for name in named
        ]
        return found + [(name, _figure(value), "", "") for name, value in sorted(self._evaluated.items())]

    def table(self) -> Table | None:
        """What is drawn; None before the first step."""
        rows = self.rows()
        if not rows:
            return None
        drawn = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        drawn.add_column(f"step {self._step}")
        for head in ("now", f"last {len(self._last)}", f"first {len(self._first)}"):
            drawn.add_column(head, justify="right")
        for row in rows:
            drawn.add_row(*row)
        return drawn


def _mean(name: str, steps: deque[Mapping[str, float]] | list[Mapping[str, float]]) -> str:
    values = [step[name] for step in steps if math.isfinite(step.get(name, math.nan))]
    return _figure(fmean(values)) if values else "–"


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
