"""Ranks that watch each other, so that a run whose rank is killed or hangs ends, and says which one it was.

Every rank gives signs of life, in a thread of its own, to a store that rank 0 keeps, and reads those of the others. A
sign says where the rank's threads are, for how long it has been waiting for the others inside a collective call, and
for how long its main thread has stood at the very same place and done nothing.

    no sign for `silent_after` seconds           the process was killed, is frozen, or its machine is gone
    waiting for others for `hung_after` seconds  the ranks that do not wait themselves are what it is waiting for
    … for what the first rank does alone         that may take hours: only if it has done nothing for as long

Then every rank that is left says so and ends, whatever it is waiting in. Without this, gloo reports a closed connection
without saying whose, and waits for a rank that hangs as long as its own time limit (`ranks.py`), half a day here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from types import FrameType, TracebackType
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from mmrl.errors import MmrlError, RunError
from mmrl.ranks import Ranks

EXIT_CODE = 2  # as for everything that is no defect of mmrl
_WAITING = ("torch/distributed/", "deepspeed/comm/")  # code that waits for other ranks
_VERDICT = "verdict"  # key of what one rank has found, for the others
_INNERMOST = 8  # frames of a thread in which such code is looked for
_IDLE = 0.001  # CPU seconds: a thread that has worked for longer was not idle
_TOLD = ("Terminated", "KeyboardInterrupt", "Stopped")  # who leaves so was told to, and so are the others


@dataclass(slots=True)
class _Sign:
    """The last sign of life of another rank."""

    count: int
    seen: float  # when it changed, seconds of this process's clock
    waiting: float = 0.0  # seconds inside one collective call
    still: float = 0.0  # seconds of its main thread at one place, doing nothing
    at: str = ""  # where it is
    over: str = ""  # why it has left: "done", or what went wrong


class RankWatch:
    """While entered, this rank gives signs of life and looks at those of the others. Nothing in a single process."""

    def __init__(
        self,
        ranks: Ranks,
        *,
        silent_after: float,
        hung_after: float,
        tell: Callable[[str], None],
        end: Callable[[], None] = lambda: os._exit(EXIT_CODE),
    ) -> None:
        """Times in seconds. `tell` gets the reason; then `end` is called, which ends a main thread that waits."""
        self._ranks, self._silent_after, self._hung_after = ranks, silent_after, hung_after
        self._tell, self._end = tell, end
        self._interval = min(silent_after, hung_after) / 8
        self._stop = threading.Event()
        self._verdict: str | None = None
        self._judged = threading.Event()
        self._main = threading.current_thread().ident
        self._held: tuple[int, float] | None = None  # the call it waits in, since when
        self._stood = (0, 0.0, 0.0)  # where the main thread is, what it had worked then (CPU seconds), since when
        self._judging_only = (
            False  # the main thread has left its work and raises what is found: nothing ends the process
        )

    def __enter__(self) -> RankWatch:
        if self._ranks.several:
            self._store = self._meet()
            now = time.monotonic()
            self._signs = {r: _Sign(count=-1, seen=now) for r in range(self._ranks.count) if r != self._ranks.rank}
            self._publish(0, "")
            self._answered = now
            self._threads = [
                threading.Thread(target=work, name="rank-watch", daemon=True) for work in (self._watch, self._guard)
            ]
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ranks.several:
            return
        if isinstance(error, (RuntimeError, OSError)) and not isinstance(error, MmrlError):
            # Perhaps a connection that another rank's end has closed: a moment later it is known whose.
            self._judging_only = True
            self._judged.wait(self._silent_after + 12 * self._interval)
            if self._verdict is not None:
                self._leave(self._verdict)
                raise RunError(self._verdict) from error
        self._leave("done" if error is None else f"{type(error).__name__}: {error}")

    def _leave(self, over: str) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self._silent_after)
        if self._verdict is not None:
            return  # the others find the same by themselves, and the store may be what has gone
        try:
            self._store.set(_key(self._ranks.rank), json.dumps({"count": -2, "over": over}))
            if self._ranks.first:  # keeps the store: not gone before the others have left, or have read why
                deadline = time.monotonic() + (self._silent_after if over == "done" else 3 * self._interval)
                while time.monotonic() < deadline and not all(self._read(r).over for r in self._signs):
                    time.sleep(self._interval / 4)
        except RuntimeError:
            pass  # the store is gone, and with it those who would have read this

    def _meet(self) -> TCPStore:
        """A store of its own, so that nobody waits behind a rank that waits in the launcher's."""
        patience = timedelta(seconds=self._silent_after)
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        own: Any = TCPStore(host, 0, None, True, patience, False) if self._ranks.first else None
        port = self._ranks.gather(own.port if own is not None else None)[0]
        assert port is not None
        store = own or TCPStore(host, port, None, False, patience)
        store.set(_key(self._ranks.rank), json.dumps({"count": -1}))
        self._ranks.gather(None)  # from here on every rank's key is there
        return store

    def _watch(self) -> None:
        count = 0
        looked = time.monotonic()
        while not self._stop.wait(self._interval):
            count += 1
            if time.monotonic() - looked > self._silent_after / 2:  # this process was not running itself
                for sign in self._signs.values():
                    sign.seen = time.monotonic()
            looked = time.monotonic()
            try:
                self._publish(count, "")
                self._look()
                self._answered = time.monotonic()
            except RuntimeError as error:
                told = 0 in self._signs and self._signs[0].over.startswith(_TOLD)
                if not self._stop.is_set() and (self._judging_only or not told):
                    self._found(f"rank 0 is gone ({str(error).splitlines()[0]})", share=False)
                return
            if self._verdict is not None:
                return

    def _guard(self) -> None:
        """The store of a rank 0 that is frozen does not answer, and asking it waits for ever."""
        looked = time.monotonic()
        while not self._stop.wait(self._interval) and self._verdict is None:
            if time.monotonic() - looked > self._silent_after / 2:
                self._answered = time.monotonic()
            looked = time.monotonic()
            silent = time.monotonic() - self._answered
            if silent > self._silent_after:
                self._found(
                    f"rank 0 has given no sign of life for {silent:.0f} s: it is frozen, or its machine is gone",
                    share=False,
                )

    def _publish(self, count: int, over: str) -> None:
        where, waiting = self._whereabouts()
        sign = {"count": count, "waiting": waiting, "still": self._still(), "at": where, "over": over}
        self._store.set(_key(self._ranks.rank), json.dumps(sign))

    def _read(self, number: int) -> _Sign:
        known = self._signs[number]
        sign: dict[str, Any] = json.loads(self._store.get(_key(number)))
        if sign["count"] != known.count:
            known.count, known.seen = sign["count"], time.monotonic()
            known.waiting, known.at = sign.get("waiting", 0.0), sign.get("at", "")
            known.still = sign.get("still", 0.0)
            known.over = sign.get("over", "")
        return known

    def _look(self) -> None:
        if self._store.check([_VERDICT]):
            self._found(self._store.get(_VERDICT).decode(), share=False)
            return
        now = time.monotonic()
        signs = {number: self._read(number) for number in self._signs}
        for number, sign in signs.items():
            # The first rank's store has just answered, so it is there. One call may keep its threads from speaking for
            # long all the same: safetensors writes a file of the model without letting go of Python.
            patience = self._silent_after if number else self._hung_after
            if not sign.over and now - sign.seen > patience:
                self._found(
                    f"rank {number} has given no sign of life for {now - sign.seen:.0f} s: it was killed, is "
                    f"frozen, or its machine is gone. It was last {sign.at}"
                )
                return
            waits = self._whereabouts()[1] > 0 and not sign.over.startswith(_TOLD)
            if sign.over not in ("", "done") and (self._judging_only or waits):
                self._found(f"rank {number} has ended ({sign.over})")
                return
        where, waiting = self._whereabouts()
        alone = self._ranks.meetings.first_works and not signs[0].over
        if waiting > self._hung_after and (not alone or signs[0].still > self._hung_after):
            working = {number: sign for number, sign in signs.items() if not sign.waiting and not sign.over}
            named = "; ".join(f"rank {number} is {sign.at}" for number, sign in working.items())
            self._found(
                f"rank {self._ranks.rank} has waited {waiting:.0f} s {where}. "
                + (f"Not waiting: {named}" if named else "All others wait too, for something else than this one does")
            )

    def _whereabouts(self) -> tuple[str, float]:
        """Where the main thread is, and how long some thread has been inside the same collective call, seconds."""
        frames = sys._current_frames()
        mine = threading.get_ident()
        main = frames.get(self._main or 0)
        waiting = next((f for thread, f in frames.items() if thread != mine and _waits(f)), None)
        if waiting is None:
            self._held = None
            return f"at {_place(main)}", 0.0
        mark = hash((self._ranks.meetings.count, *((id(f.f_code), f.f_lasti) for f in _outwards(waiting))))
        if self._held is None or self._held[0] != mark:
            self._held = (mark, time.monotonic())
        return f"waiting for the others at {_place(waiting)}", max(time.monotonic() - self._held[1], 1e-3)

    def _still(self) -> float:
        """How long the main thread has been at the same place of the same calls without working, seconds.

        One that hands out work to other processes is found at the same place every time, but takes what they bring.
        """
        main = self._main or 0
        mark = hash(tuple((id(f.f_code), f.f_lasti) for f in _outwards(sys._current_frames().get(main))))
        clock = getattr(time, "pthread_getcpuclockid", None)  # not everywhere: then its place alone has to do
        worked = time.clock_gettime(clock(main)) if main and clock is not None else 0.0
        if self._stood[0] != mark or worked - self._stood[1] > _IDLE:
            self._stood = (mark, worked, time.monotonic())
        return time.monotonic() - self._stood[2]

    def _found(self, what: str, *, share: bool = True) -> None:
        """`share`: let the others know, who may see no more than that this rank has ended because of it."""
        if self._verdict is not None:
            return
        if share:
            self._store.set(_VERDICT, what)
            if self._ranks.first:  # with which the store ends
                time.sleep(3 * self._interval)
        self._verdict = (
            f"{what}. The run cannot go on without it: start it again with --resume. See docs/failures/lost-rank.md."
        )
        self._judged.set()
        if not self._judging_only:
            self._tell(f"rank {self._ranks.rank}: {self._verdict}")
            self._end()


def _key(rank: int) -> str:
    return f"sign/{rank}"


def _waits(frame: FrameType) -> bool:
    return any(part in f.f_code.co_filename for f in _innermost(frame) for part in _WAITING)


def _innermost(frame: FrameType) -> list[FrameType]:
    return list(islice(_outwards(frame), _INNERMOST))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(frame: FrameType | None) -> str:
    """The innermost place in mmrl's own code, else the innermost of all."""
    if frame is None:
        return "an unknown place"
    inside = f"{os.sep}mmrl{os.sep}"
    own = next((f for f in _outwards(frame) if inside in f.f_code.co_filename), frame)
    path = own.f_code.co_filename
    return f"{path[path.rfind(inside) + 1 :]}:{own.f_lineno} ({own.f_code.co_name})"
