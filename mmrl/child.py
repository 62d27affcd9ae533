"""A process of our own that can be killed: started bare, spoken to over a socket, ended with everything it started.

Threads cannot be killed, and a forked copy of a process that holds torch, CUDA and locks can hang before it begins. So
a child is an ordinary new Python that inherits nothing but a socket. Rewards whose time is not bounded run in such
processes (`rewards/pool.py`), and so does the decoding of video (`data/video.py`).

Parent:   child = Child("mmrl.data.video_worker:serve"); child.send(request); child.receive(timeout_seconds=60)
Child:    serve(descriptor): opens the connection with `connected`, which also ends the process with its parent
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from multiprocessing.connection import Connection

ORPHAN_GRACE_SECONDS = 5.0


class Child:
    """One running process. `serve` is "module:function"; the function is called with the socket's descriptor."""

    def __init__(self, serve: str) -> None:
        module, _, function = serve.partition(":")
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from {module} import {function}; {function}({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what it prints must not mix with what the command prints
                env=environment,
                start_new_session=True,  # its own children die with it, and Ctrl-C reaches the parent alone
            )
        self.connection = Connection(ours.detach())
        self._end = weakref.finalize(self, _kill, self.process, self.connection)

    def kill(self) -> int:
        """End the process and everything it started; its exit code."""
        self._end()
        return self.process.wait()

    def resident_bytes(self) -> int:
        """Memory it holds now; 0 where the system does not say (only Linux does) or it has ended."""
        try:
            with open(f"/proc/{self.process.pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0


def exit_text(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def connected(descriptor: int) -> Connection:
    """In the child: the connection to the parent. From now on the process ends when its parent does."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    return Connection(descriptor)


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """In the child: a block that outlives its limit by far ends the process from inside, should the parent be gone."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action ends the process, even inside C code
    signal.setitimer(signal.ITIMER_REAL, seconds + ORPHAN_GRACE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_address_space(limit: int) -> None:
    """In the child: most bytes of address space; 0: no limit."""
    if limit:
        import resource

        with contextlib.suppress(ValueError, OSError):  # a system that has no such limit, or a lower one already
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _kill(process: subprocess.Popen[bytes], connection: Connection) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    connection.close()
    process.wait()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)
