"""Keeps the inspector's index up to a run's traces while it trains, so that a finished run of any size opens at once.

    with Indexing(traces) as indexing:
        indexing.look(writer.written_bytes)     # after every step

A process of its own, at the lowest priority, reads what is new whenever enough has come together.
It ends with the run, and a run never fails for it: what is not indexed is indexed when the run is opened. Small runs
need none of this. No torch.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from mmrl.child import Child, connected
from mmrl.traces.parts import index_folder, update_parts

NEW_BYTES = 32 * 2**20  # of traces that are worth a process while the run goes on: two seconds' reading
LAST_BYTES = 2**20  # and at its end
END_SECONDS = 10.0  # how long the end of a run waits for the rest


class Indexing:
    """The index of one run, as far as its own process is to keep it. Use as a context, in the rank that writes."""

    def __init__(self, traces: Path, *, tell: Callable[[str], None], wanted: bool = True) -> None:
        """`tell` gets a line where the index cannot be written. Nothing is done unless it is `wanted` and the packages
        that it takes are installed.
        """
        self._traces = traces
        self._tell = tell
        self._wanted = wanted and all(importlib.util.find_spec(name) for name in ("pyarrow", "orjson"))
        self._child: Child | None = None
        self._written = self._read = 0

    def __enter__(self) -> Indexing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Bring the rest in where the run ended well; else end what is running."""
        if kind is None:
            busy = not self._ended(0.0)
            if busy or self._written - self._read >= LAST_BYTES:
                self._kill()  # it would wait for the time of others, and the end of the run would wait for it
                self._begin(hurry=True)
                self._ended(END_SECONDS)
        self._kill()

    def look(self, written: int) -> None:
        """Bring the index up to the traces if `written`, bytes since the run began, say that it is worth it.

        Takes microseconds, and the milliseconds that starting a process takes when it is.
        """
        self._written = written
        if self._ended(0.0) and written - self._read >= NEW_BYTES:
            self._begin()

    def _begin(self, *, hurry: bool = False) -> None:
        if not self._wanted:
            return
        self._read = self._written
        try:
            self._child = Child("mmrl.traces.indexing:serve")
            self._child.connection.send((str(self._traces), hurry))
        except OSError as error:
            self._kill()
            self._give_up(str(error))

    def _ended(self, seconds: float) -> bool:
        """Whether no process is at it, after waiting that long at most."""
        if self._child is None:
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.process.wait(seconds) if seconds else self._child.process.poll()
        code = self._child.process.returncode
        if code is None:
            return False
        said = f"its process ended with code {code}"
        with contextlib.suppress(EOFError, OSError):
            said = str(self._child.connection.recv())
        self._kill()
        if code:
            self._give_up(said)
        return True

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _give_up(self, why: str) -> None:
        self._wanted = False
        self._tell(
            f"the inspector's index of the traces is no longer kept up during the run ({why}); `mmrl app inspect` "
            "makes it when it opens the run."
        )


def serve(descriptor: int) -> None:
    """The child process: index what is new, once."""
    connection = connected(descriptor)
    path, hurry = connection.recv()
    if not hurry:
        os.nice(19)
    traces = Path(path)
    try:
        update_parts(traces, index_folder(traces))
    except Exception as error:  # a full disk, a file that is no Parquet: the run must go on
        connection.send(f"{type(error).__name__}: {error}"[:300])
        raise SystemExit(1) from None
