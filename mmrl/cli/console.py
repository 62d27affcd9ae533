"""What the command line writes: progress to stderr, results to stdout, plain wherever nobody watches.

On a terminal progress is a bar with rate, remaining time and figures. In a pipe or a log file it is a plain line at
most every ten seconds, without control codes. Tables look the same in both, so that they can be quoted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from mmrl.progress import Progress, SilentProgress, Task

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SECONDS_BETWEEN_LINES = 10.0
SECONDS_WITHOUT_LINE = 60.0  # a line after so long even if less than a tenth was done since the last


def progress(*, quiet: bool = False) -> Progress:
    """The progress that suits stderr: bars on a terminal, plain lines elsewhere, nothing with `quiet`."""
    if quiet:
        return SilentProgress()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return TerminalProgress()
    return PlainProgress(sys.stderr)


class PlainProgress:
    """Few plain lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    @contextmanager
    def task(self, label: str, total: int, *, done: int = 0) -> Iterator[Task]:
        task = _PlainTask(self, label, total, done)
        yield task
        task.finish()


class _PlainTask:
    def __init__(self, out: PlainProgress, label: str, total: int, done: int) -> None:
        self._out, self._pace = out, _Pace(label, total, done)
        self._tenths = self._pace.tenths
        self._last_line = time.monotonic()

    def advance(self, units: int = 1, **figures: float | str) -> None:
        self._pace.advance(units, figures)
        waited = time.monotonic() - self._last_line
        tenth_passed = self._pace.tenths > self._tenths
        due = (tenth_passed and waited >= SECONDS_BETWEEN_LINES) or waited >= SECONDS_WITHOUT_LINE
        if due and not self._pace.complete:  # the last unit is told by the summary
            self._out.note(self._pace.line())
            self._last_line, self._tenths = time.monotonic(), self._pace.tenths

    def finish(self) -> None:
        self._out.note(self._pace.summary())


class TerminalProgress:
    """Bars that vanish when their work is done and leave one line."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        from mmrl.cli.live_table import LiveTable

        table = LiveTable()

        class BarsAndTable(Bars):
            def get_renderables(self) -> Iterator[RenderableType]:
                yield from super().get_renderables()
                drawn = table.table()
                if drawn is not None:
                    yield drawn

        self._table = table
        self._console: Console = Console(stderr=True, highlight=False)
        self._bars = BarsAndTable(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            transient=True,
        )
        self._open = 0

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def show_figures(self, step: int, figures: Mapping[str, float]) -> None:
        self._table.add(step, figures)

    @contextmanager
    def task(self, label: str, total: int, *, done: int = 0) -> Iterator[Task]:
        with self._shown():
            bar = self._bars.add_task(label, total=total, completed=done, rate="", figures="")
            pace = _Pace(label, total, done)
            yield _TerminalTask(self, bar, pace)
            self._bars.remove_task(bar)
            self.note(pace.summary())

    def update(self, bar: int, pace: _Pace) -> None:
        from rich.progress import TaskID

        self._bars.update(TaskID(bar), completed=pace.done, rate=pace.rate_text(), figures=pace.figures_text())

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if self._open == 0:
            self._bars.start()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if self._open == 0:
                self._bars.stop()


class _TerminalTask:
    def __init__(self, out: TerminalProgress, bar: int, pace: _Pace) -> None:
        self._out, self._bar, self._pace = out, bar, pace

    def advance(self, units: int = 1, **figures: float | str) -> None:
        self._pace.advance(units, figures)
        self._out.update(self._bar, self._pace)


class _Pace:
    """How far one task is, how fast, and its latest figures."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self.done = done
        self._label, self._total, self._before = label, total, done
        self._started = time.monotonic()
        self._figures: dict[str, float | str] = {}

    def advance(self, units: int, figures: dict[str, float | str]) -> None:
        self.done += units
        self._figures.update(figures)

    @property
    def complete(self) -> bool:
        return self.done >= self._total

    @property
    def tenths(self) -> int:
        return 10 * self.done // max(self._total, 1)

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    def line(self) -> str:
        rate = (self.done - self._before) / self._seconds
        left = f"{clock((self._total - self.done) / rate)} left" if rate > 0 else ""
        parts = (f"{self._label}: {self.done}/{self._total}", self.rate_text(), left, self.figures_text())
        return "  ".join(part for part in parts if part)

    def summary(self) -> str:
        made = f"{self._label}: {self.done}/{self._total} in {clock(self._seconds)}"
        return "  ".join(part for part in (made, self.rate_text(), self.figures_text()) if part)

    def rate_text(self) -> str:
        rate = (self.done - self._before) / self._seconds
        if rate <= 0:
            return ""
        if rate >= 1:
            return f"{rate:.0f}/s" if rate >= 100 else f"{rate:.3g}/s"
        return f"{1 / rate:.3g} s each"

    def figures_text(self) -> str:
        return " ".join(f"{name}={_figure(value)}" for name, value in self._figures.items())


def clock(seconds: float) -> str:
    """0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def table_text(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An aligned table: two spaces between columns, numbers to the right, a rule under the head."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(_width(text) for text in column) for column in zip(columns, *cells, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(columns))]

    def aligned(texts: Sequence[str]) -> str:
        padded = [
            " " * (width - _width(text)) + text if to_right else text + " " * (width - _width(text))
            for text, width, to_right in zip(texts, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([aligned(columns), rule, *(aligned(row) for row in cells)])


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A result table on stdout."""
    print(table_text(columns, rows), flush=True)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def warn(text: str) -> None:
    """One line on stderr that even `--quiet` lets through."""
    print(text, file=sys.stderr, flush=True)
