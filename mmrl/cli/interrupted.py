"""Ctrl-C in a command that can go on later: says how."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.cli.outcome import Interrupted

if TYPE_CHECKING:
    from mmrl.config.schema import Config


@contextmanager
def resumable(config: Config) -> Iterator[None]:
    """Turns Ctrl-C, at once or after the step that was running, into the command line that goes on from there."""
    from mmrl.pipeline import Stopped

    try:
        yield
    except (KeyboardInterrupt, Stopped):
        folder = Path(config.run.folder) / config.run.name
        if folder.exists():
            raise Interrupted(f"{folder} keeps what is done. To go on: {resume_command(sys.argv[1:])}") from None
        raise Interrupted("Nothing was written yet.") from None


def resume_command(arguments: list[str]) -> str:
    """The command of this process, with --resume."""
    kept = [argument for argument in arguments if argument not in ("--overwrite", "--resume")]
    return shlex.join(["mmrl", *kept, "--resume"])
