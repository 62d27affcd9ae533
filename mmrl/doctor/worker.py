"""The process in which the parts of one check are looked at: it may crash, hang or fill its memory."""

from __future__ import annotations

import importlib
import os
import time
from dataclasses import replace
from typing import Any

from mmrl.child import connected
from mmrl.doctor.finding import Finding, Verdict
from mmrl.errors import MmrlError


def serve(descriptor: int) -> None:
    """For `mmrl.child.Child`: (log file) first, then (run, part, asked) → Finding until the parent hangs up.

    All that libraries print goes to the log file.
    """
    connection = connected(descriptor)
    try:
        log = os.open(connection.recv(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        while True:
            run, part, asked = connection.recv()
            connection.send(looked(run, part, asked))
    except (EOFError, OSError):
        return


def looked(run: str, part: str, asked: Any) -> Finding:
    """The part's finding; what it raises is one too."""
    began = time.perf_counter()
    module, _, function = run.partition(":")
    try:
        found: Finding = getattr(importlib.import_module(module), function)(part, asked)
    except MmrlError as error:
        found = Finding(check=part, verdict=Verdict.FAILED, detail=str(error))
    except Exception as error:
        found = Finding(check=part, verdict=Verdict.FAILED, detail=f"{type(error).__name__}: {first_line(error)}")
    return replace(found, seconds=time.perf_counter() - began)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else "(it does not say why)"
