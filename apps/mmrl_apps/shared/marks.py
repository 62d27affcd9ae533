"""Boxes, points and spans of time, of the gold answer and of completions, in the original's pixels and seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmrl.data.answers import SPACES
from mmrl.rewards.answer import find_answer
from mmrl.rewards.coordinates import read_boxes, read_point
from mmrl.rewards.spans import read_spans, valid
from mmrl.types import Answer, MediaView, Sample

GOLD = -1
_MOST = 60  # marks drawn of one answer: a wall of boxes tells nothing more

MarkKind = Literal["box", "point", "span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing to draw.

    `numbers`: box x1, y1, x2, y2 and point x, y in pixels of the original; span start, end in seconds.
    """

    kind: MarkKind
    numbers: tuple[float, ...]
    who: int  # GOLD, or the completion's index
    label: str = ""


def marked_item(sample: Sample, rewards: Mapping[str, Any]) -> int:
    """Which media item an answer's places are on, from 0: spans of time on the first clip, boxes and points where the
    option `media` of the task's rewards says, else on the first.

    rewards: a config's, task → its entries, as plain values; {} where there are none.
    """
    if sample.answer.type in ("span", "spans"):
        return next((place for place, item in enumerate(sample.media) if item.type != "image"), 0)
    entries = rewards.get(sample.task) or rewards.get("default")
    for entry in entries if isinstance(entries, list | tuple) else ():
        options = entry.get("options") if isinstance(entry, Mapping) else None
        named = options.get("media") if isinstance(options, Mapping) else None
        if type(named) is int and 0 <= named < len(sample.media):
            return named
    return 0


def gold_marks(answer: Answer, size: tuple[int, int]) -> tuple[Mark, ...]:
    """The verifiable answer's marks; none where it is no place. `size`: width and height of the original, pixels."""
    value = answer.value
    found: list[tuple[MarkKind, Any]] = []
    if answer.type in ("box", "boxes"):
        found = [("box", box) for box in ([value] if answer.type == "box" else value)]
    elif answer.type == "point":
        found = [("point", value)]
    elif answer.type in ("span", "spans"):
        found = [("span", span) for span in ([value] if answer.type == "span" else value)]
    marks = []
    for kind, numbers in found[:_MOST]:
        scale = (1.0, 1.0) if kind == "span" else _scale(answer, size)
        scaled = tuple(float(number) * scale[place % 2] for place, number in enumerate(numbers))
        marks.append(Mark(kind=kind, numbers=scaled, who=GOLD, label="gold"))
    return tuple(marks)


def said_marks(
    text: str, *, who: int, answer: Answer | None = None, view: MediaView | None = None, size: tuple[int, int] = (0, 0)
) -> tuple[Mark, ...]:
    """What a completion's answer points at.

    answer: the gold answer, whose type says what is looked for and whose space the text speaks where there is no
    `view`; None: whatever is found: boxes, else a point, else (in a view with times) spans. size: of the original,
    pixels; needed where `answer` is not in pixels and there is no view.
    """
    said = find_answer(text).text
    if said is None:
        said = text if answer is None else ""
    kind = answer.type if answer is not None else None
    if kind in ("span", "spans") or (kind is None and view is not None and view.seconds):
        spans = [span for span in read_spans(said) or () if valid(span)]
        return tuple(Mark(kind="span", numbers=span, who=who, label=str(who + 1)) for span in spans[:_MOST])
    if kind not in (None, "box", "boxes", "point"):
        return ()
    scale = (1.0, 1.0) if answer is None else _scale(answer, size)
    return tuple(_placed(said, who, view, scale))


def media_size(view: MediaView | None, fallback: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Width and height of the original by the view, else `fallback`."""
    return fallback if view is None else (view.width, view.height)


def _placed(said: str, who: int, view: MediaView | None, scale: tuple[float, float]) -> Iterator[Mark]:
    def pixels(x: float, y: float) -> tuple[float, float]:
        return (x * scale[0], y * scale[1]) if view is None else view.to_original(x, y)

    boxes = [found for found in read_boxes(said) or () if found.valid][:_MOST]
    for found in boxes:
        corners = (*pixels(*found.box[:2]), *pixels(*found.box[2:]))
        yield Mark(kind="box", numbers=corners, who=who, label=found.label or str(who + 1))
    point = None if boxes else read_point(said)
    if point is not None and all(map(math.isfinite, point)):
        yield Mark(kind="point", numbers=pixels(*point), who=who, label=str(who + 1))


def _scale(answer: Answer, size: Sequence[int]) -> tuple[float, float]:
    """From the answer's own space to pixels of the original."""
    whole = SPACES[answer.space]
    return (1.0, 1.0) if whole is None else (size[0] / whole, size[1] / whole)
