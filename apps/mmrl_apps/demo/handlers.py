"""What the page does, without the page: values in, values out. `app.py` lays out the controls and wires them to this.

Every message here is for the person at the page; nothing a visitor sends, and nothing a model does, raises.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mmrl.errors import MmrlError
from mmrl.rewards.agreement import agreement
from mmrl.types import FinishReason, RolloutGroup, Sample
from mmrl_apps.demo import panes
from mmrl_apps.demo.asking import Answered, Desk, Event, Failed, Piece, Started, Stopped
from mmrl_apps.demo.examples import Example
from mmrl_apps.demo.keeping import Exchange, Keeper, Reply
from mmrl_apps.demo.question import NAMES, Form, Question, question_of
from mmrl_apps.demo.reading import Parts, parts
from mmrl_apps.demo.session import Session, Sessions
from mmrl_apps.demo.uploads import Uploads
from mmrl_apps.demo.votes import agreement_share, votes

SHOW_EVERY_SECONDS = 0.1  # the page is redrawn at most so often while tokens come


@dataclass(frozen=True, slots=True, kw_only=True)
class Pane:
    """One model's column."""

    reasoning: str = ""  # of the first completion; text, never markup
    answer: str = ""
    note: str = ""  # what is wrong with its form
    samples: str = ""  # HTML: all completions and the votes, where there are several


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is shown now."""

    status: str  # one sentence
    panes: tuple[Pane, ...]
    drawing: str | None = None  # what was shown, with the answers drawn on it; None: as before


@dataclass(slots=True)
class _Writing:
    """One model's completions as far as they are known."""

    texts: list[str]
    group: RolloutGroup | None = None
    seconds: float = 0.0
    trouble: str = ""

    def finished(self) -> bool:
        return self.group is not None


@dataclass(slots=True)
class Demo:
    """The models, the visitors, and where exchanges are kept."""

    desk: Desk
    uploads: Uploads
    sessions: Sessions
    keeper: Keeper
    examples: Sequence[Example] = ()
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    def look(self, visitor: str, files: Sequence[str]) -> tuple[str, str]:
        """(what the next question is asked about, what is wrong with the files or empty)."""
        session = self.sessions.get(visitor)
        trouble = self._admit(session, files)
        return self._preview(session), trouble

    def choose(self, visitor: str, number: int) -> tuple[Form, str] | str:
        """(the form filled from an example, its media); a message where there is no such example."""
        if not 0 <= number < len(self.examples):
            return "There is no such example."
        session = self.sessions.get(visitor)
        sample = self.examples[number].sample
        with session.lock:
            session.example, session.shown = sample, []
        kind = NAMES.get(sample.answer.type, "Free text")
        form = Form(question=sample.question, kind=kind, options="\n".join(sample.choices))
        return form, self._preview(session)

    def clear(self, visitor: str) -> str:
        """Nothing is uploaded, no example is chosen, no exchange is there to be kept."""
        session = self.sessions.get(visitor)
        session.stop.set()
        with session.lock:
            session.shown, session.example, session.exchange, session.kept = [], None, None, None
        return self._preview(session)

    def stop(self, visitor: str) -> None:
        """End the answer that is being written."""
        self.sessions.get(visitor).stop.set()

    def leave(self, visitor: str) -> None:
        """The page was closed."""
        self.sessions.forget(visitor)

    def ask(self, visitor: str, form: Form, files: Sequence[str], *, keep: bool) -> Iterator[Page]:
        """The page as the models answer; the last one stays. `keep`: keep the exchange when it is done."""
        session = self.sessions.get(visitor)
        session.stop = stop = threading.Event()
        session.exchange = session.kept = None
        empty = tuple(Pane() for _ in self.desk.speakers)
        trouble = self._admit(session, files)
        if trouble:
            yield Page(status=trouble, panes=empty, drawing=self._preview(session))
            return
        try:
            question = question_of(form, session.media(), example=session.example)
        except MmrlError as error:
            yield Page(status=str(error), panes=empty)
            return
        writing = [_Writing([""] * question.sampling.group_size) for _ in self.desk.speakers]
        yield Page(status="Waiting for the model.", panes=empty, drawing=panes.shown(question.sample, session.names()))
        shown_at = 0.0
        status = ""
        for event in self.desk.ask(question, stop):
            status = self._note(event, writing) or status
            now = time.monotonic()
            if not isinstance(event, Piece) or now - shown_at >= SHOW_EVERY_SECONDS:
                shown_at = now
                yield Page(status=status, panes=self._panes(question, writing))
        yield self._last(session, question, writing, status, keep=keep)

    def keep(self, visitor: str) -> str:
        """Keep the last exchange; says where, or why not."""
        session = self.sessions.get(visitor)
        with self._keeping:
            if session.exchange is None:
                return "There is no answer to keep yet: ask something first."
            if session.kept is not None:
                return f"Already kept in {session.kept}."
            try:
                session.kept = self.keeper.keep(session.exchange)
            except MmrlError as error:
                return str(error)
            return f"Kept in {session.kept}. To look at it: mmrl app inspect {self.keeper.folder}"

    def _admit(self, session: Session, files: Sequence[str]) -> str:
        """What is wrong with the files; empty: they are what the next question is asked about."""
        with session.lock:
            try:
                session.shown = self.uploads.admit(files, session.folder, session.admitted)
            except MmrlError as error:
                session.shown = []
                return str(error)
            except OSError as error:
                session.shown = []
                return f"The files could not be stored ({error.strerror or error}). Try again."
        return ""

    def _preview(self, session: Session) -> str:
        if session.shown:
            return panes.preview(session.shown)
        if session.example is not None:
            return panes.shown(session.example, {})
        return panes.nothing_shown()

    def _note(self, event: Event, writing: list[_Writing]) -> str:
        """Takes in one event; the status it brings, empty where it stays as it is."""
        one = writing[event.speaker]
        name = self.desk.speakers[event.speaker].name
        if isinstance(event, Started):
            return f"{name} is reading the question."
        if isinstance(event, Piece):
            one.texts[event.index] += event.text
            return f"{name} is writing."
        if isinstance(event, Answered):
            one.group, one.seconds = event.group, event.seconds
            one.texts = [rollout.completion.text for rollout in event.group.rollouts]
            tokens = sum(len(rollout.token_ids) for rollout in event.group.rollouts)
            return f"{name} has answered: {tokens} tokens in {event.seconds:.1f} s."
        if isinstance(event, Stopped):
            one.trouble = "Stopped before it was finished."
            return f"Stopped while {name} was writing."
        assert isinstance(event, Failed)
        one.trouble = event.message
        return f"{name}: {event.message}"

    def _last(self, session: Session, question: Question, writing: list[_Writing], status: str, *, keep: bool) -> Page:
        pairs = zip(self.desk.speakers, writing, strict=True)
        replies = tuple(
            Reply(model=speaker.name, group=one.group, seconds=one.seconds) for speaker, one in pairs if one.group
        )
        trouble = [one.trouble for one in writing if one.trouble]
        if replies:
            session.exchange = Exchange(question=question, replies=replies)
        if len(replies) == len(writing) > 1:
            status = f"{len(replies)} models have answered in {sum(reply.seconds for reply in replies):.1f} s."
        if replies and keep and not trouble:
            with self._keeping:
                try:
                    session.kept = self.keeper.keep(session.exchange)  # type: ignore[arg-type]
                    status += f" Kept in {session.kept}."
                except MmrlError as error:
                    status += f" {error}"
        groups = [(number, tag, one.group) for number, tag, one in self._numbered(writing) if one.group is not None]
        drawing = panes.drawn(question, groups, models=len(writing), names=session.names()) if groups else None
        return Page(status=status, panes=self._panes(question, writing), drawing=drawing)

    def _numbered(self, writing: Sequence[_Writing]) -> list[tuple[int, str, _Writing]]:
        pairs = zip(self.desk.speakers, writing, strict=True)
        return [(number, speaker.answer_tag, one) for number, (speaker, one) in enumerate(pairs)]

    def _panes(self, question: Question, writing: Sequence[_Writing]) -> tuple[Pane, ...]:
        return tuple(_pane(question.sample, tag, one) for _, tag, one in self._numbered(writing))


def _pane(sample: Sample, tag: str, one: _Writing) -> Pane:
    read = [parts(text, tag, finished=one.finished()) for text in one.texts]
    several = _several(sample, tag, one, read) if len(read) > 1 and any(one.texts) else ""
    first = _cut_noted(read[0], one)
    return Pane(
        reasoning=first.reasoning,
        answer=first.answer,
        note=" ".join(note for note in (one.trouble, first.note) if note),
        samples=several,
    )


def _cut_noted(read: Parts, one: _Writing) -> Parts:
    if one.group is None or one.group.rollouts[0].completion.finish_reason is not FinishReason.LENGTH:
        return read
    cut = f"Cut after {len(one.group.rollouts[0].token_ids)} tokens: allow more for the longest completion."
    return replace(read, note=f"{cut} {read.note}".strip())


def _several(sample: Sample, tag: str, one: _Writing, read: Sequence[Parts]) -> str:
    rows = [
        panes.SampleRow(
            answer=part.answer,
            reasoning=part.reasoning,
            note=part.note,
            verdict=agreement(text, sample) if one.finished() and tag == "answer" and not _void(part) else "",
            tokens=len(one.group.rollouts[index].token_ids) if one.group is not None else None,
        )
        for index, (text, part) in enumerate(zip(one.texts, read, strict=True))
    ]
    if not one.finished():
        return panes.samples(rows, (), 0.0)
    table = votes([part.answer if not _void(part) else None for part in read], sample)
    return panes.samples(rows, table, agreement_share(table, len(read)))


def _void(part: Parts) -> bool:
    return bool(part.note) or not part.answer
