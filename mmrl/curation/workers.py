"""Worker processes for rows and media: results in order, a bounded number of items under way, and a hard time limit.

Decoders of pictures and clips can hang or crash in C code, where no exception and no thread timeout helps. So a worker
is a new Python process (`mmrl/child.py`); one that is late is killed, one that dies is replaced, and
either costs the item it worked on and no other.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from mmrl.child import Child, connected, exit_text
from mmrl.errors import MmrlError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")
_COLLECT_EVERY = 64  # items
START_SECONDS = 120.0  # for the imports of a new process


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Stands for the result of an item whose process was killed or died."""

    reason: str  # "too slow" or "crash"
    detail: str


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def run_ordered(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """`work` of every item, in their order; at most two items a worker are under way. One worker: in this process.

    `work` and the items must pickle. A process that dies is a RunError: this is for our own code, not for decoders.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    for result in run_killable(work, items, workers=workers, seconds=None):
        if isinstance(result, Failed):
            raise RunError(
                f"a worker process ended: {result.detail}. It may have run out of memory: use fewer --workers."
            )
        yield result


def run_killable(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, seconds: float | None
) -> Iterator[Result | Failed]:
    """As `run_ordered`, always in other processes. An item that takes longer than `seconds` is given up and `Failed`.

    An error of mmrl that `work` raises is raised here; any other exception is `Failed` with reason "crash".
    """
    pool = _Pool(work, workers=max(1, workers), seconds=seconds)
    try:
        yield from pool.run(iter(items))
    finally:
        pool.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raised:
    error: bytes | None  # a pickled MmrlError
    detail: str


class _Process:
    def __init__(self, work: bytes) -> None:
        self.child = Child("mmrl.curation.workers:serve")
        self.connection = self.child.connection
        self.connection.send_bytes(work)
        self.ready = False
        self.number: int | None = None  # of the item it works on
        self.deadline: float | None = time.monotonic() + START_SECONDS


class _Pool(Generic[Item, Result]):
    def __init__(self, work: Callable[[Item], Result], *, workers: int, seconds: float | None) -> None:
        self._work = pickle.dumps(work)
        self._limit = workers
        self._seconds = seconds
        self._processes: list[_Process] = []
        self._items: dict[int, Item] = {}  # under way or waiting for a worker, by number
        self._waiting: list[int] = []
        self._done: dict[int, Any] = {}

    def run(self, items: Iterator[Item]) -> Iterator[Result | Failed]:
        taken = given = 0
        ended = False
        while True:
            while not ended and taken - given < 2 * self._limit:
                try:
                    self._items[taken] = next(items)
                except StopIteration:
                    ended = True
                    break
                self._waiting.append(taken)
                taken += 1
            while given in self._done:
                result = self._done.pop(given)
                given += 1
                if isinstance(result, _Raised):
                    if result.error is not None:
                        raise pickle.loads(result.error)
                    result = Failed(reason="crash", detail=result.detail)
                yield result
            if ended and given == taken:
                return
            if not ended and taken - given < 2 * self._limit:
                continue
            self._assign()
            self._collect()

    def close(self) -> None:
        for process in self._processes:
            process.child.kill()
        self._processes = []

    def _assign(self) -> None:
        starting = sum(not p.ready for p in self._processes)
        while len(self._processes) < self._limit and len(self._waiting) > starting:
            self._processes.append(_Process(self._work))
            starting += 1
        for process in self._processes:
            if self._waiting and process.ready and process.number is None:
                process.number = self._waiting.pop(0)
                process.deadline = None if self._seconds is None else time.monotonic() + self._seconds
                with contextlib.suppress(OSError):  # it died: found when its answer is read
                    process.connection.send_bytes(pickle.dumps(self._items[process.number], protocol=5))

    def _collect(self) -> None:
        busy = [p for p in self._processes if p.number is not None or not p.ready]
        deadlines = [p.deadline for p in busy if p.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        there = set(wait([p.connection for p in busy], timeout=patience))
        for process in busy:
            if process.connection in there:
                self._answer(process)
            elif process.deadline is not None and time.monotonic() >= process.deadline:
                self._give_up(process)

    def _answer(self, process: _Process) -> None:
        try:
            message = pickle.loads(process.connection.recv_bytes())
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.child.process.wait(timeout=1.0)
            self._processes.remove(process)
            code = process.child.kill()
            if process.number is None:
                raise RunError(
                    f"a worker process ended while it started ({exit_text(code)}); its message stands above"
                ) from None
            self._finish(process, Failed(reason="crash", detail=f"the decoder's process ended: {exit_text(code)}"))
            return
        if not process.ready:
            if message is not None:
                raise RunError(f"a worker process could not start: {message}")
            process.ready = True
            process.deadline = None
        else:
            self._finish(process, message)

    def _give_up(self, process: _Process) -> None:
        self._processes.remove(process)
        process.child.kill()
        if not process.ready:
            raise RunError(f"a worker process did not start within {START_SECONDS:g} seconds")
        limit = f"{self._seconds:g}" if self._seconds is not None else "?"
        self._finish(process, Failed(reason="too slow", detail=f"was given up after {limit} seconds"))

    def _finish(self, process: _Process, result: Any) -> None:
        assert process.number is not None
        self._done[process.number] = result
        del self._items[process.number]
        process.number = None
        process.deadline = None


def serve(descriptor: int) -> None:
    """The worker's side: the function, then one item after the other; ends when its parent does."""
    connection = connected(descriptor)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # there are as many workers as cores already
        os.environ.setdefault(name, "1")
    try:
        work = pickle.loads(connection.recv_bytes())  # written by our own parent
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(None)
    gc.disable()  # rows are millions of small objects without cycles; looking for some takes half of the time
    for number in count(1):
        if number % _COLLECT_EVERY == 0:
            gc.collect()
        try:
            item = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        result: Any
        try:
            result = work(item)
        except MmrlError as error:
            result = _Raised(error=pickle.dumps(error), detail=str(error))
        except Exception as error:
            traceback.print_exc()
            result = _Raised(error=None, detail=f"{type(error).__name__}: {error}")
        try:
            connection.send_bytes(pickle.dumps(result, protocol=5))
        except (EOFError, OSError):
            return
