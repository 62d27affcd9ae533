"""The parts of the page that are more than a line of text: what was shown, answers drawn on it, samples and votes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmrl.data.pictures import pictures_of
from mmrl.types import MediaView, RolloutGroup, Sample
from mmrl_apps.demo.examples import Example
from mmrl_apps.demo.question import MOST_SAMPLES, Question
from mmrl_apps.demo.reading import parts
from mmrl_apps.demo.uploads import Shown
from mmrl_apps.demo.votes import Vote
from mmrl_apps.shared.marks import Mark, gold_marks, marked_item, said_marks
from mmrl_apps.shared.markup import fragment, message
from mmrl_apps.shared.pictures import ShownMedia, show_media

if TYPE_CHECKING:
    from PIL.Image import Image

_HUES = 6  # colours between those of one model and those of the next


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One completion of several."""

    answer: str
    reasoning: str
    note: str  # what is wrong with its form
    verdict: str  # whether the reasoning ends at the answer: agrees, contradicts, unstated; empty: not known
    tokens: int | None  # None: it is being written


def nothing_shown() -> str:
    """Where media would be."""
    return message("Nothing to look at yet: add a picture or a clip, or choose an example. A question alone works too.")


def preview(shown: Sequence[Shown]) -> str:
    """What was uploaded, under the names it came with."""
    seen = show_media([item.media for item in shown], (), None)
    named = tuple(replace(item, title=given.name) for item, given in zip(seen, shown, strict=True))
    return _media(named, [()] * len(named))


def shown(sample: Sample, names: Mapping[str, str]) -> str:
    """A sample's media. `names`: path → what it is called where that is not the file's own name."""
    if not sample.media:
        return message("Asked without a picture or clip.")
    seen = _named(sample, show_media(sample.media, (), None), names)
    return _media(seen, [()] * len(seen))


def drawn(
    question: Question, replies: Sequence[tuple[int, str, RolloutGroup]], *, models: int, names: Mapping[str, str]
) -> str:
    """What the models saw, with the answers of each (number of the model, answer tag, group) drawn on it, and the
    gold one where it is known. `names`: as in `shown`.
    """
    sample, views = question.sample, replies[0][2].prompt.views
    if not sample.media:
        return message("Asked without a picture or clip.")
    seen = _named(sample, show_media(sample.media, views, None), names)
    item = marked_item(sample, {})
    marks: list[Mark] = []
    if question.has_gold and seen[item].size != (0, 0):
        marks += gold_marks(sample.answer, seen[item].size)
    for number, tag, group in replies:
        for rollout in group.rollouts:
            who = _HUES * number + rollout.index
            label = (letter(number) if models > 1 else "") + str(rollout.index + 1)
            found = _said(rollout.completion.text, tag, who, sample, group.prompt.views[item])
            marks += [replace(mark, label=_labelled(mark.label, who, label)) for mark in found]
    html = _media(seen, [tuple(marks) if place == item else () for place in range(len(seen))])
    return html + fragment("demo_legend.html.j2", marks=_legend(marks), gold=_gold_words(question))


def samples(rows: Sequence[SampleRow], table: Sequence[Vote], share: float) -> str:
    """Every completion, and how they voted; `table` is empty while they are being written."""
    return fragment("demo_samples.html.j2", rows=rows, votes=table, share=share)


def letter(number: int) -> str:
    """A for the first model, B for the second."""
    return "AB"[number]


def _named(sample: Sample, seen: Sequence[ShownMedia], names: Mapping[str, str]) -> list[ShownMedia]:
    return [
        replace(one, title=names.get(item.path or "", one.title)) for item, one in zip(sample.media, seen, strict=True)
    ]


def _media(seen: Sequence[ShownMedia], marks: Sequence[tuple[Mark, ...]]) -> str:
    return fragment("media.html.j2", media=seen, marks=marks)


def _said(text: str, tag: str, who: int, sample: Sample, view: MediaView) -> tuple[Mark, ...]:
    """Marks of an answer that counts, on the item seen by `view`. Free text may hold boxes; two numbers in it are no
    point.
    """
    read = parts(text, tag, finished=True)
    answer = "" if read.note else read.answer
    kind = None if sample.answer.type == "text" else sample.answer
    found = said_marks(f"<answer>{answer}</answer>", who=who, answer=kind, view=view)
    return found if kind is not None else tuple(mark for mark in found if mark.kind == "box")


def _labelled(given: str, who: int, ours: str) -> str:
    return ours if given == str(who + 1) else f"{ours} {given}"


def _legend(marks: Sequence[Mark]) -> list[Mark]:
    """One mark of each who."""
    first = list({mark.who: mark for mark in marks}.values())[: 2 * MOST_SAMPLES + 1]
    return first if len(first) > 1 else []  # one alone is named where it is drawn


def _gold_words(question: Question) -> str:
    """The known answer in words; empty where there is none."""
    if not question.has_gold:
        return ""
    answer = question.sample.answer
    if answer.type == "choice":
        place = ord(answer.value) - ord("A")
        choices = question.sample.choices
        return f"{answer.value}. {choices[place]}" if 0 <= place < len(choices) else str(answer.value)
    if answer.type in ("text", "math", "number"):
        return f"{answer.value:g}" if answer.type == "number" else str(answer.value)
    return _numbers(answer.value)


def _numbers(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_numbers(item) for item in value) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def thumbnail(sample: Sample) -> Image:
    """A small picture that stands for the sample: its first picture, or a frame from the middle of its clip."""
    pictures = pictures_of(sample)
    picture = pictures[len(pictures) // 2 if sample.media[0].type == "video" else 0].copy()
    picture.thumbnail((160, 160))
    return picture


def caption(example: Example) -> str:
    """What an example asks, in a few words."""
    return textwrap.shorten(example.sample.question, 60, placeholder=" …")
