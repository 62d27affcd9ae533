"""Boxes and points as models write them, and the one space in which they are compared.

Boxes are read from JSON (fenced or not, broken or not), plain brackets and Qwen's tokens, with or without labels:

    [10, 20, 30, 40]      (10, 20, 30, 40)      10, 20, 30, 40      <|box_start|>(10,20),(30,40)<|box_end|>
    ```json [{"bbox_2d": [10, 20, 30, 40], "label": "cat"}] ```

Four numbers in brackets are found by a scan that takes linear time and knows no nesting, so no text can exhaust it. A
box has a defined fate: swapped corners, no area, NaN, infinity or a coordinate beyond ±1e6 make it **invalid**; an
invalid box overlaps nothing but is still counted as a box that was given. Coordinates outside the picture are valid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.errors import RewardError
from mmrl.types import Completion, MediaView, Sample

Box = tuple[float, float, float, float]
Point = tuple[float, float]

LONGEST = 20_000  # characters; a longer answer is read as no box
LARGEST = 1e6  # coordinates beyond are invalid

_N = r"\s*+([-+]?+(?:\d{1,20}+(?:\.\d{0,20}+)?+|\.\d{1,20}+)(?:[eE][-+]?+\d{1,3}+)?+|[-+]?+(?:nan|inf(?:inity)?+))\s*+"
_BOX = re.compile(rf"[\[(]{_N},{_N},{_N},{_N}[\])]|\({_N},{_N}\)\s*+,\s*+\({_N},{_N}\)(?!\s*+,\s*+\()", re.IGNORECASE)
_D = r"(\d{1,6}(?:\.\d{1,6})?)"
_ONLY_BOX = re.compile(rf"\[{_D}, ?{_D}, ?{_D}, ?{_D}\]")  # what most policies write, recognised cheaply
_BARE_BOX = re.compile(rf"{_N},{_N},{_N},{_N}", re.IGNORECASE)
_POINT = re.compile(rf"[\[(]{_N},{_N}[\])]", re.IGNORECASE)
_BARE_POINT = re.compile(rf"{_N},{_N}", re.IGNORECASE)
_NAMED_POINT = re.compile(rf'"?\bx"?\s*+[:=]{_N},\s*+"?y"?\s*+[:=]{_N}', re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*+\}")
_LABEL = re.compile(r'"label"\s*+:\s*+"([^"]*+)"')
_NONE = re.compile(r"\s*+(?:```(?:json)?+)?+\s*+(?:\[\s*+\]|none|null)\s*+(?:```)?+\s*+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundBox:
    """A box that the policy gave."""

    box: Box
    label: str = ""

    @property
    def valid(self) -> bool:
        x1, y1, x2, y2 = self.box
        return -LARGEST <= x1 < x2 <= LARGEST and -LARGEST <= y1 < y2 <= LARGEST


def read_boxes(text: str) -> list[FoundBox] | None:
    """Every box in `text`; empty where it says that there is none ("[]", "None"); None where it holds no boxes."""
    if len(text) > LONGEST:
        return None
    only = _ONLY_BOX.fullmatch(text) or _BARE_BOX.fullmatch(text)
    if only:
        x1, y1, x2, y2 = only.groups()
        return [FoundBox((float(x1), float(y1), float(x2), float(y2)))]
    if '"label"' in text:
        found = [
            FoundBox(_box(match.groups()), _label(part))
            for part in _OBJECT.findall(text)
            for match in _BOX.finditer(part)
        ]
        if found:
            return found
    found = [FoundBox(_box(match.groups())) for match in _BOX.finditer(text)]
    return found or ([] if _NONE.fullmatch(text) else None)


def read_point(text: str) -> Point | None:
    """The one point in `text`, or the centre of its one box; None where there is none, or more than one."""
    if len(text) > LONGEST:
        return None
    boxes = read_boxes(text)
    if boxes:
        if len(boxes) > 1 or not boxes[0].valid:
            return None
        x1, y1, x2, y2 = boxes[0].box
        return (x1 + x2) / 2, (y1 + y2) / 2
    bare = _BARE_POINT.fullmatch(text)
    points = [bare] if bare else [*_POINT.finditer(text), *_NAMED_POINT.finditer(text)]
    if len(points) != 1:
        return None
    x, y = float(points[0][1]), float(points[0][2])
    return (x, y) if abs(x) <= LARGEST and abs(y) <= LARGEST else None


def _box(groups: Sequence[str | None]) -> Box:
    x1, y1, x2, y2 = (float(number) for number in groups if number is not None)
    return x1, y1, x2, y2


def _label(part: str) -> str:
    match = _LABEL.search(part)
    return match[1].strip() if match else ""


def view_of(completion: Completion, media: int) -> MediaView | None:
    """The view in which the policy speaks of media item `media`; None where it speaks the answer's own space."""
    if not completion.views:
        return None
    if media >= len(completion.views):
        raise RewardError(
            f"a reward's option `media` is {media}, and the sample has {len(completion.views)} media items. "
            f"The first is 0."
        )
    return completion.views[media]


def said_point(point: Point, view: MediaView | None) -> Point:
    """A point as the policy wrote it, in the space of comparison: original pixels, or the answer's own without view."""
    return point if view is None else view.to_original(*point)


def said_box(box: Box, view: MediaView | None) -> Box:
    """A box as the policy wrote it, in the space of comparison."""
    return box if view is None else (*view.to_original(box[0], box[1]), *view.to_original(box[2], box[3]))


def gold_points(numbers: Sequence[float], sample: Sample, view: MediaView | None) -> tuple[float, ...]:
    """The gold answer's coordinates x, y, x, y … in the space of comparison."""
    if view is None or sample.answer.space == "pixels":
        return tuple(numbers)
    whole = 1.0 if sample.answer.space == "unit" else 1000.0
    sizes = (view.width / whole, view.height / whole)
    return tuple(number * sizes[place % 2] for place, number in enumerate(numbers))


def verify_numbers(sample: Sample, numbers: object, count: int) -> None:
    """Raise `RewardError` unless `numbers` are `count` finite numbers."""
    fine = isinstance(numbers, Sequence) and not isinstance(numbers, str) and len(numbers) == count
    if not fine or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):  # type: ignore[attr-defined]
        raise RewardError(
            f"sample {sample.id!r}: an answer of type {sample.answer.type!r} needs {count} finite numbers, "
            f"not {numbers!r}."
        )


def verify_box(sample: Sample, box: object) -> None:
    """Raise `RewardError` unless `box` has an area."""
    verify_numbers(sample, box, 4)
    if not FoundBox(tuple(box)).valid:  # type: ignore[arg-type]
        raise RewardError(f"sample {sample.id!r}: the gold box {box!r} has no area, or its corners are swapped.")
