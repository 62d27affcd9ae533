"""How long work tells its reader where it is, without knowing whether that is a terminal, a log file or nobody."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable


class Task(Protocol):
    """One piece of work with a known number of units."""

    def advance(self, units: int = 1, **figures: float | str) -> None:
        """`units` more are done; `figures` (loss=…, reward=…) are shown beside the rate."""
        ...


class Progress(Protocol):
    """Where progress goes. `cli/console.py` has the implementations for terminals and for pipes."""

    def note(self, text: str) -> None:
        """One line about what begins, or what was found."""
        ...

    def task(self, label: str, total: int, *, done: int = 0) -> AbstractContextManager[Task]:
        """Begin work of `total` units, of which `done` were done by an earlier, resumed process."""
        ...


@runtime_checkable
class ShowsFigures(Protocol):
    """A progress that has room for a table of the latest metrics."""

    def show_figures(self, step: int, figures: Mapping[str, float]) -> None:
        """The metrics of a step that is done."""
        ...


class _SilentTask:
    def advance(self, units: int = 1, **figures: float | str) -> None:
        return None


class SilentProgress:
    """Says nothing: the default of library calls, and of tests."""

    def note(self, text: str) -> None:
        return None

    def task(self, label: str, total: int, *, done: int = 0) -> AbstractContextManager[Task]:
        return nullcontext(_SilentTask())
