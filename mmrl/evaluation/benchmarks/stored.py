"""What a benchmark's rules make of one stored prediction, and how its lines are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmrl.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One prediction, scored."""

    accuracy: float  # in [0, 1]
    answer: str | None = None  # what the rules compare, in a form in which equals are equal; None: nothing was found
    task: str = ""  # which part of the benchmark; empty: it has none
    measures: Mapping[str, float] = field(default_factory=dict)  # names of `measures.py`
    slices: Mapping[str, str] = field(default_factory=dict)  # what its figures are told apart by
    format: float = 1.0  # where the benchmark asks for a form


Score = Callable[[str, Mapping[str, Any]], Stored]  # (prediction, its line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one benchmark scores. DataError from `score` where a line lacks what it needs."""

    summary: str
    source: str  # whose rules these are
    fields: Sequence[str]  # of a line, besides the prediction
    score: Score
    slice_by: tuple[str, ...]  # keys of what it tells apart
    id_field: str = "id"  # which field of its lines tells them apart


def text_field(row: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that is there, as text."""
    for name in names:
        value = row.get(name)
        if value is not None and not isinstance(value, bool | list | dict):
            return str(value)
    raise DataError(f"has no {' or '.join(names)}")


def numbers_field(row: Mapping[str, Any], count: int, *names: str) -> list[float]:
    """The first of these fields that is there: a list of so many numbers."""
    for name in names:
        value = row.get(name)
        if value is None:
            continue
        fine = isinstance(value, list) and len(value) == count
        if not fine or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            raise DataError(f"{name} is {value!r}; it must be a list of {count} numbers")
        return [float(item) for item in value]
    raise DataError(f"has no {' or '.join(names)}")
