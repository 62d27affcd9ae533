"""How a command ends: its exit code, and what it says when something went wrong.

    0    done
    1    a defect of mmrl: the traceback, and a request to report it
    2    something the user can mend: one reason on stderr, no traceback
    130  Ctrl-C: what to do to go on

Results go to stdout; everything here goes to stderr.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

import typer

from mmrl.errors import MmrlError

# What the machine refuses and its owner can mend; any other OSError is unexpected, so that its traceback matters.
MENDABLE = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Interrupted(Exception):
    """Ctrl-C, with what the user may want to know now."""


def finish(command: Callable[[], object]) -> int:
    """Run the command; returns its exit code."""
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:  # wrong options and arguments
        return _usage(error)
    except MmrlError as error:
        return _say(str(error), 2)
    except Interrupted as error:
        return _say(f"\nInterrupted. {error}", 130)
    except (KeyboardInterrupt, typer.Abort):
        return _say("\nInterrupted.", 130)
    except BrokenPipeError:  # `mmrl … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in MENDABLE:
            return _defect()
        return _say(f"{error.filename or 'a file'}: {error.strerror}. Free or choose another place, and run again.", 2)
    except Exception:
        return _defect()


def _say(text: str, code: int) -> int:
    prefix = "" if text.startswith("\n") else "mmrl: "
    print(f"{prefix}{text}", file=sys.stderr, flush=True)
    return code


def _usage(error: typer.TyperException) -> int:
    message = error.format_message().replace("Value error, ", "").removeprefix("Invalid value: ").rstrip(".")
    if message.startswith("Usage:"):  # called without arguments: the message is the help page
        print(message, file=sys.stderr, flush=True)
        return 2
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "mmrl"
    end = "" if message.endswith("?") else "."
    return _say(f"{message[:1].lower()}{message[1:]}{end} See `{command} --help`.", 2)


def _defect() -> int:
    traceback.print_exc()
    return _say("this is a defect of mmrl, not of what you asked. Please report it with the lines above.", 1)
