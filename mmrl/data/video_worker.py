"""The child process that decodes clips: started bare, killed by `video.py` when it is late or too large. No torch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from mmrl.child import alarm, connected
from mmrl.data.video_info import ClipTrouble, Decode, Inspect, Trouble
from mmrl.data.video_inspect import inspect_clip


def serve(descriptor: int) -> None:
    """Answer requests until the parent closes the connection."""
    connection = connected(descriptor)
    _silence()
    connection.send(None)  # ready
    while True:
        try:
            request: Inspect | Decode = connection.recv()
        except (EOFError, OSError):
            return
        try:
            with alarm(request.deadline_seconds):
                _answer(connection, request)
        except OSError:  # the parent is gone, or does not want the rest
            return


def _answer(connection: Connection, request: Inspect | Decode) -> None:
    answers = _inspected(request.path) if isinstance(request, Inspect) else _decoded(request)
    while True:
        try:
            answer = next(answers)
        except StopIteration:
            return
        except ClipTrouble as error:
            answer, answers = Trouble(reason=error.reason, message=str(error)), iter(())
        except MemoryError:
            raise
        except Exception as error:  # libraries raise every kind of exception on damaged bytes
            message = f"cannot be decoded ({type(error).__name__}: {_first_line(error)})"
            answer, answers = Trouble(reason="corrupt video", message=message), iter(())
        connection.send(answer)


def _inspected(path: str) -> Iterator[Any]:
    yield inspect_clip(path)


def _decoded(request: Decode) -> Iterator[Any]:
    module, _, name = request.reader.partition(":")
    yield from getattr(importlib.import_module(module), name)(request.path, request.info, request.frames)
    yield None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(": ", 1)[-1][:300] if lines else ""


def _silence() -> None:
    """Damaged files make FFmpeg print dozens of lines; what matters is in the answer."""
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    try:
        import decord  # type: ignore[import-untyped]
    except Exception:  # not installed for this machine: the readers' own import says so, and PyAV reads
        return
    decord.logging.set_level(decord.logging.QUIET)
