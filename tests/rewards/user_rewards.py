"""Rewards as a user might write them, good and bad, for the tests of the runtime."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.errors import MediaError
from mmrl.rewards.reward import Reward
from mmrl.types import Completion, MediaView, Sample, Score

NO_FUNCTION = 3


def right(completion: Completion, sample: Sample) -> bool:
    """Whether the gold answer is in the text."""
    return sample.answer.value in completion.text


def area(completion: Completion, sample: Sample, factor: float = 1.0) -> float:
    return 0.5 * factor


def wild(completion: Completion, sample: Sample) -> Score:
    """Does what the text says."""
    text = completion.text
    if "sleep" in text:
        time.sleep(60)
    if "spin" in text:
        while True:
            pass
    if "segfault" in text:
        ctypes.string_at(0)
    if "exit" in text:
        os._exit(3)
    if "children" in text:
        os.system("sleep 61.5 &")
        time.sleep(60)
    if "raise" in text:
        raise KeyError("no such thing")
    if "recursion" in text:
        return wild(completion, sample)
    if "memory" in text:
        return Score(value=float(len(bytearray(1 << 40))))
    if "out of range" in text:
        return Score(value=7.0)
    if "nan" in text:
        return Score(value=float("nan"))
    if "nothing" in text:
        return None  # type: ignore[return-value]
    if "details" in text:
        return Score(value=1.0, details={"a": (lambda: 1)})
    print("rewards may print")
    return Score(value=1.0, details={"torch": "torch" in sys.modules, "pid": os.getpid()})


def broken(completion: Completion, sample: Sample) -> float:
    raise ZeroDivisionError("always")


def frames_seen(completion: Completion, sample: Sample, *, frames: Sequence[Any]) -> Score:
    return Score(value=1.0, details={"frames": list(frames)})


def decode(sample: Sample, views: Sequence[MediaView]) -> Sequence[Any]:
    if sample.id == "broken":
        raise MediaError("the clip ends early")
    return [f"frame of {sample.id}", 2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """1 where the text has more than `than` characters."""

    than: int = 3

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        return Score(value=float(len(completion.text) > self.than))


SHAPING = Reward(function=Longer(), summary="longer than a few letters", kind="shaping", low=-1.0, high=1.0)
