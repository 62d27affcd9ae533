"""Reading single JSON values of a row. Every function returns the value or raises a DataError that names the field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from mmrl.errors import DataError, unknown_name

T = TypeVar("T")


class Defects:
    """Collects what is wrong with one row, so that its author sees all of it at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def catch(self, parse: Callable[..., T], *args: Any, **options: Any) -> T | None:
        """The parsed value, or None and one more defect."""
        try:
            return parse(*args, **options)
        except DataError as error:
            self.found.append(str(error))
            return None


def json_type(value: Any) -> str:
    """What a value is called in JSON, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, Mapping) else type(value).__name__


def as_object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DataError(f"{name} is {json_type(value)}; it must be an object {{…}}")
    return value


def as_list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{name} is {json_type(value)}; it must be a list […]")
    return list(value)


def as_text(value: Any, name: str) -> str:
    """Text that is not blank."""
    if not isinstance(value, str):
        shown = f" {value!r}" if isinstance(value, (int, float)) else ""
        raise DataError(f"{name} is {json_type(value)}{shown}; it must be text in quotes")
    if not value.strip():
        raise DataError(f"{name} is empty; fill it in or drop the row")
    return value


def as_number(value: Any, name: str, *, at_least: float | None = None, above: float | None = None) -> float:
    """A finite number; an integer stays one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = " (a number in quotes is text: remove the quotes)" if isinstance(value, str) else ""
        raise DataError(f"{name} is {json_type(value)}; it must be a number{hint}")
    if not math.isfinite(value):
        raise DataError(f"{name} is {value}; it must be a finite number")
    if at_least is not None and value < at_least:
        raise DataError(f"{name} is {value}; it must be at least {at_least:g}")
    if above is not None and value <= above:
        raise DataError(f"{name} is {value}; it must be above {above:g}")
    return value


def as_count(value: Any, name: str) -> int:
    """A whole number of at least 1."""
    number = as_number(value, name, at_least=1)
    if not isinstance(number, int):
        raise DataError(f"{name} is {number}; it must be a whole number")
    return number


def one_of(value: Any, name: str, kind: str, known: Iterable[str]) -> str:
    text = as_text(value, name)
    if text not in set(known):
        raise DataError(f"{name}: {unknown_name(kind, text, known)}")
    return text


def check_keys(row: Mapping[str, Any], known: Iterable[str], name: str, defects: Defects) -> None:
    """One defect for every key that nobody reads: a misspelt key would otherwise change nothing, silently."""
    names = list(known)
    for key in row:
        if key not in names:
            defects.found.append(f"{name}{unknown_name('key', str(key), names)}")
