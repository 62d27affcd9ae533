"""What the language of `filter` is made of: the fields of a sample, functions and operators."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from mmrl.types import Sample

Env = dict[str, Any]

FIELDS: Mapping[str, str] = {
    "id": "text",
    "task": "text",
    "question": "text",
    "choices": "option texts",
    "answer": ".type, .value, .unit, .space",
    "media": "items with .type, .path (absolute), .paths, .start, .end, .fps, .max_frames",
    "metadata": "any keys",
    "right": "text of the right option of a choice, else the answer's value",
    "images": "number of pictures",
    "videos": "number of videos",
    "frames": "number of lists of frames",
    "words": "words of the question",
}
INSIDE: Mapping[str, tuple[str, ...]] = {
    "answer": ("type", "value", "unit", "space"),
    "media": ("type", "path", "paths", "start", "end", "fps", "max_frames"),
}
CONSTANTS = {"true": True, "false": False, "True": True, "False": False}


class Missing:
    """What a field is that the row does not have."""


MISSING = Missing()


def found_in(text: str, pattern: re.Pattern[str]) -> bool:
    return pattern.search(text) is not None


def _size(value: Any) -> int:
    if not isinstance(value, str | list | tuple | dict):
        raise TypeError("len() of a number")
    return len(value)


# name → (function, least and most arguments)
FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "len": (_size, 1, 1),
    "lower": (lambda text: str.lower(text), 1, 1),
    "words": (lambda text: len(str.split(text)), 1, 1),
    "matches": (found_in, 2, 2),
    "startswith": (lambda text, start: str.startswith(text, start), 2, 2),
    "endswith": (lambda text, end: str.endswith(text, end), 2, 2),
    "abs": (abs, 1, 1),
    "min": (min, 1, 8),
    "max": (max, 1, 8),
    "sum": (sum, 1, 1),
    "round": (round, 1, 2),
    "any": (any, 1, 1),
    "all": (all, 1, 1),
    "has": (lambda value: True, 1, 1),
    "default": (lambda value, other: value, 2, 2),
}
COMPARE: Mapping[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.In: ("in", lambda a, b: a in b),
    ast.NotIn: ("not in", lambda a, b: a not in b),
}
ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def environment(sample: Sample) -> Env:
    """What the names of an expression stand for."""
    kinds = [item.type for item in sample.media]
    answer = sample.answer
    right = answer.value
    if answer.type == "choice" and sample.choices:
        right = sample.option(answer.value)
    return {
        "id": sample.id,
        "task": sample.task,
        "question": sample.question,
        "choices": sample.choices,
        "answer": {"type": answer.type, "value": answer.value, "unit": answer.unit, "space": answer.space},
        "media": sample.media,
        "metadata": sample.metadata,
        "right": right,
        "images": kinds.count("image"),
        "videos": kinds.count("video"),
        "frames": kinds.count("frames"),
        "words": len(sample.question.split()),
    }
