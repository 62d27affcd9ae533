"""Ctrl-C, or a scheduler's SIGTERM, in a command that can go on later: says how."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from mmrl.cli.console import warn
from mmrl.cli.outcome import Interrupted

if TYPE_CHECKING:
    from mmrl.config.schema import Config


@contextmanager
def resumable(config: Config) -> Iterator[None]:
    """Turns Ctrl-C, at once or after the step that was running, into the command line that goes on from there.

    SIGTERM is no mistake of the user's but a machine that is needed elsewhere: the same words, and exit code 0.
    """
    from mmrl.pipeline import Stopped
    from mmrl.training.interrupt import Terminated

    try:
        with _terminated_is_raised():
            yield
    except Terminated as told:
        folder = Path(config.run.folder) / config.run.name
        kept = f"{folder} keeps what is done" if folder.exists() else "nothing was written yet"
        done = f" ({told})" if str(told) else ""
        warn(f"Ended by SIGTERM{done}; {kept}. To go on: {resume_command(sys.argv[1:])}")
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, Stopped):
        folder = Path(config.run.folder) / config.run.name
        if folder.exists():
            raise Interrupted(f"{folder} keeps what is done. To go on: {resume_command(sys.argv[1:])}") from None
        raise Interrupted("Nothing was written yet.") from None


@contextmanager
def continued(folder: Path) -> Iterator[None]:
    """The same for a command that goes on by itself when it is given again."""
    from mmrl.pipeline import Stopped
    from mmrl.training.interrupt import Terminated

    try:
        with _terminated_is_raised():
            yield
    except Terminated:
        warn(f"Ended by SIGTERM; {folder} keeps what is done. To go on, give the same command again.")
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, Stopped):
        raise Interrupted(f"{folder} keeps what is done. To go on, give the same command again.") from None


@contextmanager
def _terminated_is_raised() -> Iterator[None]:
    """Outside of the training loop, which finishes its step first, every stage begins anew when it was cut off."""
    from mmrl.training.interrupt import Terminated

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def resume_command(arguments: list[str]) -> str:
    """The command of this process, with --resume."""
    kept = [argument for argument in arguments if argument not in ("--overwrite", "--resume")]
    return shlex.join(["mmrl", *kept, "--resume"])
