"""The `answer` object of a manifest row: checked and turned into an `Answer`.

choice "B" · choices ["A", "C"] · number 3.5 (unit) · text, math "…" · box [x1, y1, x2, y2] · boxes [[…], …] ·
point [x, y] · span [start, end] seconds · spans [[…], …]        box, boxes, point: space pixels, unit or norm1000
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from mmrl.data.fields import Defects, as_list, as_number, as_object, as_text, check_keys, json_type, one_of
from mmrl.errors import DataError
from mmrl.types import LETTERS, Answer, AnswerType, Space

SPACES: dict[str, float | None] = {"pixels": None, "unit": 1.0, "norm1000": 1000.0}  # the largest coordinate

_NAME = "answer.value"


def parse_answer(row: Any, *, where: str) -> Answer:
    """The `answer` object of a row; `where` begins the message of a DataError that names all its defects."""
    defects = Defects()
    answer = examine_answer(row, defects)
    if answer is None or defects.found:
        raise DataError(f"{where}: {'; '.join(defects.found)}")
    return answer


def examine_answer(row: Any, defects: Defects) -> Answer | None:
    """The answer, or None; adds what is wrong to `defects`."""
    fields = defects.catch(as_object, row, "answer")
    if fields is None:
        return None
    type_ = defects.catch(one_of, fields.get("type"), "answer.type", "answer type", ANSWERS)
    if type_ is None:
        return None
    check_keys(fields, ("type", "value", *_EXTRAS.get(type_, ())), f"answer of type {type_!r}: ", defects)
    space = "pixels"
    if type_ in _SPATIAL and fields.get("space") is not None:
        named = defects.catch(one_of, fields["space"], "answer.space", "space", SPACES)
        if named is None:
            return None  # without the space, the coordinates cannot be judged
        space = named
    unit = None
    if type_ == "number" and fields.get("unit") is not None:
        unit = defects.catch(as_text, fields["unit"], "answer.unit")
    if fields.get("value") is None:
        defects.found.append(
            "answer.value is missing or null. Every verifiable sample needs a value to compare with; drop the row"
        )
        return None
    value = defects.catch(ANSWERS[type_], fields["value"], space)
    if value is None:
        return None
    return Answer(type=cast(AnswerType, type_), value=value, unit=unit, space=cast(Space, space))


def answer_row(answer: Answer) -> dict[str, Any]:
    """The JSON object that `parse_answer` reads back."""
    row: dict[str, Any] = {"type": answer.type, "value": answer.value}
    if answer.unit is not None:
        row["unit"] = answer.unit
    if answer.space != "pixels":
        row["space"] = answer.space
    return row


def _letter(value: Any, space: str) -> str:
    if isinstance(value, str) and len(value) == 1 and value in LETTERS:
        return value
    bare = value.strip(" ().:").upper() if isinstance(value, str) else ""
    hint = f' Here: "{bare}".' if len(bare) == 1 and bare in LETTERS else ""
    raise DataError(
        f'{_NAME} is {_shown(value)}, which is no option letter; write one capital letter, "A" for the first option.'
        f"{hint}"
    )


def _letters(value: Any, space: str) -> tuple[str, ...]:
    letters = tuple(_letter(item, space) for item in as_list(value, _NAME))
    if not letters:
        raise DataError(f"{_NAME} is an empty list; name at least one option, or drop the row")
    if len(set(letters)) != len(letters):
        raise DataError(f"{_NAME} {list(letters)} names an option twice; it is a set of letters")
    return letters


def _number(value: Any, space: str) -> float:
    return as_number(value, _NAME)


def _text(value: Any, space: str) -> str:
    return as_text(value, _NAME)


def _coordinates(value: Any, count: int, form: str, name: str) -> tuple[float, ...]:
    items = as_list(value, name)
    if len(items) != count:
        raise DataError(f"{name} has {len(items)} numbers; it must be {form}")
    return tuple(as_number(item, f"{name}[{index}]") for index, item in enumerate(items))


def _inside(coordinates: tuple[float, ...], space: str, name: str) -> None:
    limit = SPACES[space]
    if min(coordinates) < 0 or (limit is not None and max(coordinates) > limit):
        span = "0 and the picture's size" if limit is None else f"0 and {limit:g}"
        raise DataError(
            f"{name} {list(coordinates)} lies outside the picture: in space {space!r} coordinates are between {span}. "
            f"Clip it, or name the space it is in (pixels, unit, norm1000)"
        )


def _box(value: Any, space: str, name: str = _NAME) -> tuple[float, ...]:
    box = _coordinates(value, 4, "[x1, y1, x2, y2]", name)
    _inside(box, space, name)
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise DataError(
            f"{name} {list(box)} has no area: it must be [x1, y1, x2, y2] with x1 < x2 and y1 < y2. "
            f"If these are x, y, width, height, write [x, y, x + width, y + height]"
        )
    if space == "pixels" and x2 <= 1 and y2 <= 1:
        raise DataError(
            f'{name} {list(box)} is smaller than a pixel. If these are fractions of the picture, add "space": "unit"'
        )
    return box


def _boxes(value: Any, space: str) -> tuple[tuple[float, ...], ...]:
    return tuple(_box(item, space, f"{_NAME}[{index}]") for index, item in enumerate(as_list(value, _NAME)))


def _point(value: Any, space: str) -> tuple[float, ...]:
    point = _coordinates(value, 2, "[x, y]", _NAME)
    _inside(point, space, _NAME)
    return point


def _span(value: Any, space: str, name: str = _NAME) -> tuple[float, ...]:
    span = _coordinates(value, 2, "[start, end] in seconds", name)
    start, end = span
    if start < 0 or end <= start:
        raise DataError(
            f"{name} {list(span)} is no span of time: it must be [start, end] in seconds with 0 ≤ start < end"
        )
    return span


def _spans(value: Any, space: str) -> tuple[tuple[float, ...], ...]:
    return tuple(_span(item, space, f"{_NAME}[{index}]") for index, item in enumerate(as_list(value, _NAME)))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (str, int, float)) and len(repr(value)) < 60 else json_type(value)


# Answer type → (value, space) → the value as `Answer` holds it.
ANSWERS: Mapping[str, Callable[[Any, str], Any]] = {
    "choice": _letter,
    "choices": _letters,
    "number": _number,
    "text": _text,
    "math": _text,
    "box": _box,
    "boxes": _boxes,
    "point": _point,
    "span": _span,
    "spans": _spans,
}
_SPATIAL = ("box", "boxes", "point")
_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "number": ("unit",),
    "box": ("space",),
    "boxes": ("space",),
    "point": ("space",),
}
