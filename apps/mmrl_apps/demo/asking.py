"""Asking one model or two, one question at a time: a stream of events that a page can show as they come.

Models write in a thread of their own, so that whoever reads the events can stop reading, and the writing then ends at
the next token. A model that fails is an event too.
"""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mmrl.errors import MmrlError
from mmrl.rollout.engine import RolloutEngine, Sampling
from mmrl.types import Dropped, Prompt, RolloutGroup, Sample
from mmrl_apps.demo.question import Question


class RendersPrompts(Protocol):
    """Sample → prompt: `mmrl.policy.render.Renderer`."""

    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]: ...


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine whose rollouts can be watched while they are written."""

    def stream_group(
        self, prompt: Prompt, sampling: Sampling, *, step: int, on_text: Callable[[int, str], None]
    ) -> RolloutGroup: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """A model that can be asked."""

    name: str
    engine: RolloutEngine
    renderer: RendersPrompts
    answer_tag: str  # of the form it is asked in; empty: all of a completion is the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A model begins: pictures are prepared, the prompt is read."""

    speaker: int  # index


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """More text of one completion."""

    speaker: int
    index: int  # of the completion in its group
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A model has finished."""

    speaker: int
    group: RolloutGroup
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A model, or the media it was to be shown, could not be used."""

    speaker: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The asker did not want the rest."""

    speaker: int


Event = Started | Piece | Answered | Failed | Stopped


class _Stop(Exception):
    """Raised inside an engine to end the writing."""


class Desk:
    """The models behind the page. One question is answered at a time; others wait for the lock, in the page's queue."""

    def __init__(self, speakers: Sequence[Speaker]) -> None:
        self.speakers = tuple(speakers)
        self._lock = threading.Lock()

    def ask(self, question: Question, stop: threading.Event) -> Iterator[Event]:
        """Each model's events in turn. Set `stop` to end it; leaving the iterator does too."""
        events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        gone = threading.Event()

        def work() -> None:
            try:
                with self._lock:
                    for number, speaker in enumerate(self.speakers):
                        _speak(number, speaker, question, events.put, lambda: stop.is_set() or gone.is_set())
            finally:
                events.put(None)

        threading.Thread(target=work, daemon=True, name="mmrl-demo-answer").start()
        try:
            while (event := events.get()) is not None:
                yield event
        finally:
            gone.set()


def _speak(
    number: int, speaker: Speaker, question: Question, put: Callable[[Event], Any], stopped: Callable[[], bool]
) -> None:
    def show(index: int, text: str) -> None:
        if stopped():
            raise _Stop
        if text:
            put(Piece(speaker=number, index=index, text=text))

    try:
        if stopped():
            raise _Stop
        put(Started(speaker=number))
        began = time.monotonic()
        prompts, dropped = speaker.renderer.render([question.sample])
        if dropped:
            put(Failed(speaker=number, message=dropped[0].detail))
            return
        group = _written(speaker.engine, prompts[0], question, show)
        put(Answered(speaker=number, group=group, seconds=time.monotonic() - began))
    except _Stop:
        put(Stopped(speaker=number))
    except MmrlError as error:
        put(Failed(speaker=number, message=str(error)))
    except Exception as error:  # engines and models raise every kind of exception, and the page must live on
        traceback.print_exc()
        put(Failed(speaker=number, message=f"The model failed ({type(error).__name__}: {error})."))


def _written(
    engine: RolloutEngine, prompt: Prompt, question: Question, show: Callable[[int, str], None]
) -> RolloutGroup:
    if isinstance(engine, StreamingEngine):
        return engine.stream_group(prompt, question.sampling, step=question.seed, on_text=show)
    [group] = engine.generate([prompt], question.sampling, step=question.seed)
    for rollout in group.rollouts:
        show(rollout.index, rollout.completion.text)
    return group
