"""Equality of a prediction and a gold answer as the benchmarks that use `math_verify` ask for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mmrl.evaluation.votes import only_number


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


def read_math(prediction: str) -> str | None:
    """What `math_verify` finds in a text, as a text: a number by its value, so that 1/2 is 0.5. None: nothing."""
    from math_verify import parse

    try:
        found = parse(prediction)
        said = str(found[0]) if found else None
    except Exception:  # as above; and numbers of more digits than Python writes
        return None
    return (only_number(said) or said) if said else None


@lru_cache(maxsize=1024)
def _parsed(gold: str) -> list[Any]:
    from math_verify import parse

    found: list[Any] = parse(gold)
    return found
