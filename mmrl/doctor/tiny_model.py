"""What a run on the CPU trains with, in one process, so that the tiny model is made once."""

from __future__ import annotations

from mmrl.doctor import backends, engines
from mmrl.doctor.finding import Asked, Finding


def look(part: str, asked: Asked) -> Finding:
    """`part`: "engine NAME" or "backend NAME"."""
    return engines.look(part, asked) if part.startswith("engine ") else backends.look(part, asked)
