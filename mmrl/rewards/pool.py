"""Worker processes with a hard limit per call: late ones are killed, crashed ones are replaced.

A worker is a `mmrl.child.Child` that runs `worker.py`. Started at the first call that needs one.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait

from mmrl.child import Child, exit_text
from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.reward import Reward
from mmrl.rewards.worker import Call, Hello, Loaded, Outcome
from mmrl.types import RewardStatus

START_SECONDS = 120.0  # for imports and `prepare()`


class _Worker:
    """One process and what it is doing."""

    def __init__(self, hello: Hello) -> None:
        self.child = Child("mmrl.rewards.worker:serve")
        self.connection = self.child.connection
        self.connection.send(hello)
        self.ready = False  # it answered the hello
        self.call: int | None = None  # position of the call it works on
        self.since = time.monotonic()
        self.timeout = START_SECONDS  # of what it does now
        self.deadline = self.since + self.timeout

    def begin(self, position: int, call: Call) -> None:
        self.call = position
        self.connection.send(call)
        self.since = time.monotonic()
        self.timeout = call.timeout_seconds
        self.deadline = self.since + call.timeout_seconds + call.loading_seconds

    def frames_loaded(self) -> None:
        """From now on it is the reward that takes time."""
        self.since = time.monotonic()
        self.deadline = self.since + self.timeout


class WorkerPool:
    """Runs calls in at most `workers` processes. Not for use from two threads at once."""

    def __init__(
        self, rewards: Sequence[tuple[str, Reward]], *, workers: int = 2, frames: str = "", memory_gib: float = 8.0
    ) -> None:
        self._hello = Hello(
            rewards=tuple(_pickled(name, reward) for name, reward in rewards),
            names=tuple(name for name, _ in rewards),
            frames=frames,
            memory_bytes=int(memory_gib * 2**30),
        )
        self._limit = workers
        self._workers: list[_Worker] = []

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """The outcome of every call, in the order of `calls`. Raises `RewardError` where no worker can start."""
        outcomes: list[Outcome | None] = [None] * len(calls)
        waiting = deque(range(len(calls)))
        try:
            while waiting or any(worker.call is not None for worker in self._workers):
                self._assign(waiting, calls)
                self._collect(outcomes)
                self._kill_late(outcomes, calls)
        except BaseException:
            self.close()  # what is running belongs to nobody any more
            raise
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self) -> None:
        for worker in self._workers:
            worker.child.kill()
        self._workers = []

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that exist now."""
        return [worker.child.process.pid for worker in self._workers]

    def _assign(self, waiting: deque[int], calls: Sequence[Call]) -> None:
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._workers) < self._limit and len(waiting) > starting:
            self._workers.append(_Worker(self._hello))
            starting += 1
        for worker in list(self._workers):
            if waiting and worker.ready and worker.call is None:
                position = waiting.popleft()
                try:
                    worker.begin(position, calls[position])
                except OSError:  # it died while idle; the call goes to another
                    waiting.appendleft(position)
                    self._discard(worker)

    def _collect(self, outcomes: list[Outcome | None]) -> None:
        busy = {worker.connection: worker for worker in self._workers if worker.call is not None or not worker.ready}
        if not busy:
            return
        patience = min(worker.deadline for worker in busy.values()) - time.monotonic()
        for connection in wait(list(busy), timeout=max(0.0, patience)):
            worker = busy[connection]  # type: ignore[index]  # `wait` is typed for sockets as well
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker, outcomes)
                continue
            if isinstance(message, Loaded):
                worker.frames_loaded()
            elif worker.call is not None:
                outcomes[worker.call] = message
                worker.call = None
            elif message is None:
                worker.ready = True
            else:
                raise RewardError(f"reward {message} Rewards must be importable from a fresh Python process.")

    def _bury(self, worker: _Worker, outcomes: list[Outcome | None]) -> None:
        """A process that ended by itself: a failure of the call it worked on, and of no other."""
        seconds = time.monotonic() - worker.since
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.child.process.wait(timeout=1.0)  # its socket closes a moment before its exit code is known
        code = self._discard(worker)
        if not worker.ready:
            raise RewardError(
                f"the process for rewards {', '.join(self._hello.names)} ended while it started ({exit_text(code)}). "
                f"Its own message stands above this one."
            )
        if worker.call is not None:
            outcomes[worker.call] = Outcome(
                score=None, status=RewardStatus.ERROR, error=f"its process ended: {exit_text(code)}", seconds=seconds
            )

    def _kill_late(self, outcomes: list[Outcome | None], calls: Sequence[Call]) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if not worker.ready and now >= worker.deadline:
                raise RewardError(
                    f"the process for rewards {', '.join(self._hello.names)} did not start within "
                    f"{START_SECONDS:g} seconds. Move slow work out of the module's import."
                )
            if worker.call is not None and now >= worker.deadline and not worker.connection.poll():
                limit = calls[worker.call].timeout_seconds
                outcomes[worker.call] = Outcome(
                    score=None,
                    status=RewardStatus.TIMEOUT,
                    error=f"killed at its time limit of {limit:g} seconds",
                    seconds=now - worker.since,
                )
                self._discard(worker)

    def _discard(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        return worker.child.kill()


def _pickled(name: str, reward: Reward) -> bytes:
    try:
        return pickle.dumps(reward)
    except Exception as error:
        raise ConfigError(
            f"reward {name!r} runs in a process of its own and cannot be sent there ({error}). Define it at the top "
            f"level of an importable module, not in a function or a notebook."
        ) from error
