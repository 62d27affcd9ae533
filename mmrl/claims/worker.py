"""Units in processes of their own, which stay: libraries are loaded once in each, and a killed parent takes them along.

Parent:   with Workers(2) as workers: workers.begin(replication, unit); unit = workers.finished()
Child:    serve(descriptor): does one unit after the other
"""

from __future__ import annotations

import contextlib
from multiprocessing.connection import wait
from types import TracebackType

from mmrl.child import Child, connected, exit_text
from mmrl.claims.unit import Replication, Unit, run_unit
from mmrl.errors import MmrlError, RunError
from mmrl.pipeline import Stopped
from mmrl.progress import SilentProgress
from mmrl.training.interrupt import Terminated

SECONDS_TO_STOP = 120.0  # for a step, its checkpoint, or an evaluation; then it is killed, and that unit's end is lost


class Workers:
    """So many processes at a time. Left by an exception, those at work stop after their step, with a checkpoint."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle: list[Child] = []
        self._busy: dict[Child, Unit] = {}

    @property
    def free(self) -> int:
        """How many further units can be begun."""
        return self._count - len(self._busy)

    @property
    def busy(self) -> list[Unit]:
        """What is under way."""
        return list(self._busy.values())

    def begin(self, replication: Replication, unit: Unit) -> None:
        """Hand a unit to a process that has none."""
        child = self._idle.pop() if self._idle else Child("mmrl.claims.worker:serve")
        child.connection.send((replication, unit))
        self._busy[child] = unit

    def finished(self) -> Unit:
        """Wait for a unit. Raises what it raised; RunError where its process ended."""
        by_connection = {child.connection: child for child in self._busy}
        child = by_connection[wait(list(by_connection))[0]]  # type: ignore[index]  # these are Connections
        unit = self._busy.pop(child)
        try:
            error: BaseException | None = child.connection.recv()
        except EOFError:
            seed, arm = unit
            raise RunError(
                f"seed {seed}, {arm or 'cold start'}: its process ended by {exit_text(child.kill())}. Where memory is "
                "short, --processes 1 takes less; the same command goes on."
            ) from None
        self._idle.append(child)
        if error is not None:
            raise error
        return unit

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._busy:
            child.process.terminate()
        for child in self._busy:
            child.connection.poll(SECONDS_TO_STOP)
        for child in [*self._busy, *self._idle]:
            child.kill()


def serve(descriptor: int) -> None:
    """A process: units, one after the other, until the parent is gone."""
    connection = connected(descriptor)
    with contextlib.suppress(EOFError, Terminated):  # the parent is gone, or told us to stop
        while True:
            replication, (seed, arm) = connection.recv()
            connection.send(_outcome(replication, seed, arm))


def _outcome(replication: Replication, seed: int, arm: str | None) -> BaseException | None:
    try:
        run_unit(replication, seed, arm, SilentProgress())
    except (MmrlError, Stopped) as error:
        return type(error)(str(error))  # without what cannot be sent
    except Exception as error:
        import traceback

        return RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    return None
