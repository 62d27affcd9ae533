"""Equality of a prediction and a gold answer as the benchmarks that use `math_verify` ask for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def math_equal(prediction: str, gold: str) -> bool:
    """verify(parse(prediction), parse(gold)), false where it raises or runs out of its seconds. Main thread only.

    A gold in which nothing mathematical is found, such as an option's letter, equals nothing.
    """
    target = _parsed(gold)
    if not target:
        return False
    from math_verify import parse, verify  # type: ignore[import-untyped]

    try:
        return bool(verify(parse(prediction), target))
    except Exception:  # whatever SymPy raises at a model's text: that text is then no match
        return False


@lru_cache(maxsize=1024)
def _parsed(gold: str) -> list[Any]:
    from math_verify import parse

    found: list[Any] = parse(gold)
    return found
