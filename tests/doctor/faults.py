"""Checks that misbehave, for `test_examine.py`: what a part does is its name."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from mmrl.doctor.finding import Asked, Finding, Verdict
from mmrl.errors import ConfigError


def look(part: str, asked: Asked) -> Finding:
    """fine, lacks, skips, crash, exit, hang, raise, refuse; `asked.folder` is where "fine" notes its process."""
    if part.startswith("fine"):
        (Path(asked.folder) / f"{part}.pid").write_text(str(os.getpid()))
        return Finding(check=part, verdict=Verdict.OK, detail=f"{part} saw {asked.device}", figures={"answer": 42})
    if part.startswith("lacks"):
        return Finding(check=part, verdict=Verdict.SKIPPED, detail="not installed", advice="install it")
    if part == "skips":
        return Finding(check=part, verdict=Verdict.SKIPPED, detail="not for this system")
    print("printed on stdout by a library")
    if part == "crash":
        print("what the library said last", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if part == "exit":
        os._exit(3)
    if part == "hang":
        (Path(asked.folder) / "hang.pid").write_text(str(os.getpid()))
        while True:
            time.sleep(1)
    if part == "refuse":
        raise ConfigError("backend.type is deepspeed, which is not installed here.")
    raise RuntimeError("operator torchvision::nms does not exist\nand more lines")
