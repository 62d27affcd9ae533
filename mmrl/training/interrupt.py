"""Signals between two steps.

Ctrl-C    the first one asks the loop to stop after its step, the second one stops at once
SIGTERM   a scheduler takes the machine back: stop after this step, with a checkpoint; again changes nothing
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Terminated(BaseException):
    """SIGTERM came while nothing was running that could be finished first. Like KeyboardInterrupt, no error."""


class StopRequest:
    """While entered, SIGINT and SIGTERM set `requested`; a second SIGINT raises KeyboardInterrupt where it strikes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.requested = False
        self.terminated = False  # by SIGTERM
        self._tell = tell
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # only there Python lets handlers be set
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            if not self.terminated:
                self._tell("told to end (SIGTERM): stopping after this step, with a checkpoint")
            self.requested = self.terminated = True
        elif self.requested:
            raise KeyboardInterrupt
        else:
            self.requested = True
            self._tell("stopping after this step; once more to stop at once")
