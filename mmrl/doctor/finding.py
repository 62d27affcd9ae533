"""What a check found, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """From good to bad, and last what was not looked at."""

    OK = "OK"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the table."""

    check: str  # "engine vllm"
    verdict: Verdict
    detail: str  # what was seen, with figures
    advice: str = ""  # what to do; empty where there is nothing to do
    needed: bool = False  # for a run on the CPU: without it nothing trains here
    figures: Mapping[str, float] = field(default_factory=dict)  # the detail's numbers, named with their units
    seconds: float = 0.0  # it took


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every check is told."""

    folder: str = "runs"  # where run folders will live
    device: str = "cpu"  # of the tiny models: cpu, cuda, or auto: a GPU where torch sees one


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Parts that one process looks at in turn. A part that ends or hangs the process costs that part only."""

    run: str  # "module:function": (part, asked) → Finding; imported in that process
    parts: tuple[str, ...]
    seconds: float  # most for one part, the process's start included
    needed: tuple[str, ...] = ()  # parts without which nothing trains on the CPU
    slow: bool = False  # left out by `--fast`
    together: str = ""  # the parts that are fine become one row of this name; empty: a row each
