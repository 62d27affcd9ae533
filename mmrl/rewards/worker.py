"""The child process that rewards run in when their time is not bounded: started bare, killed when it is late.

`serve(FD)` in a new Python talks over the socket FD: first a `Hello`, then one `Call` after the other, each
answered before the next is sent. It imports no torch, ends when its parent does, and a call that outlives its limit by
far ends the process from inside too, so that an orphan in an endless loop does not stay.
"""

from __future__ import annotations

import importlib
import os
import pickle
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mmrl.child import alarm, connected, limit_address_space
from mmrl.errors import ConfigError, DataError, RewardError
from mmrl.rewards.reward import Reward
from mmrl.types import Completion, MediaView, RewardStatus, Sample, Score

_FRAMES_KEPT = 4  # samples whose decoded frames stay in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a worker must know before its first call."""

    rewards: tuple[bytes, ...]  # pickled `Reward`s; calls name them by position
    names: tuple[str, ...]  # for messages
    frames: str  # "module:function", (sample, views) → decoded frames; empty: there is none
    memory_bytes: int  # address space the process may use; 0: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    reward: int  # position in `Hello.rewards`
    completion: Completion
    sample: Sample
    timeout_seconds: float
    loading_seconds: float = 0.0  # for decoding the frames it asks for, before its own time begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Sent before the outcome: the frames are there, and the reward's own time begins."""


@dataclass(slots=True, kw_only=True)  # not frozen: one is made per call, and freezing doubles what that costs
class Outcome:
    """What became of a call."""

    score: Score | None  # None: it failed
    status: RewardStatus = RewardStatus.OK
    error: str = ""
    defect: bool = False  # the reward says that the sample cannot be scored at all
    seconds: float = 0.0


Frames = Callable[[Sample, Sequence[MediaView]], Sequence[Any]]


def call_reward(
    reward: Reward,
    completion: Completion,
    sample: Sample,
    frames: Frames | None = None,
    loaded: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run one reward; whatever it raises becomes an `Outcome`. `loaded` is called once its frames are there."""
    start = time.perf_counter()
    try:
        result: object
        if reward.needs_frames:
            if frames is None:
                raise ValueError("it asks for frames, and the scorer was given no frame loader")
            pictures = frames(sample, completion.views)
            loaded()
            start = time.perf_counter()
            result = reward.function(completion, sample, frames=pictures)  # type: ignore[call-arg]
        else:
            result = reward.function(completion, sample)
        score = reward.checked(result)
    except (ConfigError, DataError, RewardError) as error:
        return _failure(str(error), start, defect=True)
    except Exception as error:  # whatever it is, it is this reward's failure on this completion
        return _failure(f"{type(error).__name__}: {str(error)[:500]}", start)
    return Outcome(score=score, seconds=time.perf_counter() - start)


def _failure(message: str, start: float, *, defect: bool = False) -> Outcome:
    seconds = time.perf_counter() - start
    return Outcome(score=None, status=RewardStatus.ERROR, error=message, defect=defect, seconds=seconds)


class _Frames:
    """Decoded frames of the last few samples: the completions of a group arrive together."""

    def __init__(self, path: str) -> None:
        module, _, name = path.partition(":")
        self._load: Frames = getattr(importlib.import_module(module), name)
        self._kept: OrderedDict[str, Sequence[Any]] = OrderedDict()

    def __call__(self, sample: Sample, views: Sequence[MediaView]) -> Sequence[Any]:
        if sample.id not in self._kept:
            self._kept[sample.id] = self._load(sample, views)
            if len(self._kept) > _FRAMES_KEPT:
                self._kept.popitem(last=False)
        return self._kept[sample.id]


def serve(descriptor: int) -> None:
    """Answer calls until the parent closes the connection."""
    connection = connected(descriptor)
    hello: Hello = connection.recv()
    rewards: dict[int, Reward] = {}
    frames = None
    name = ""
    try:
        limit_address_space(hello.memory_bytes)
        for number, pickled in enumerate(hello.rewards):
            name = hello.names[number]
            rewards[number] = pickle.loads(pickled)  # written by our own parent
            prepare = getattr(rewards[number].function, "prepare", None)
            if prepare is not None:
                prepare()
        name = "frame loader"
        frames = _Frames(hello.frames) if hello.frames else None
    except Exception as error:  # said to the parent, which raises it
        connection.send(f"{name!r} does not load in a process of its own: {type(error).__name__}: {error}")
        return
    connection.send(None)
    while True:
        try:
            call: Call = connection.recv()
        except (EOFError, OSError):
            return
        with alarm(call.timeout_seconds + call.loading_seconds):
            outcome = call_reward(
                rewards[call.reward], call.completion, call.sample, frames, lambda: connection.send(Loaded())
            )
        _send(connection, outcome)


def _send(connection: Connection, outcome: Outcome) -> None:
    try:
        connection.send(outcome)
    except (OSError, EOFError):
        os._exit(0)
    except Exception as error:  # details that do not pickle
        connection.send(_failure(f"its details cannot leave the process: {error}", time.perf_counter()))
