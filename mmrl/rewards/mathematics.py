"""Mathematical equality, decided by the `math-verify` package (SymPy and a LaTeX grammar)."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mmrl.rewards.answer import answer_text
from mmrl.rewards.normalize import folded
from mmrl.rewards.quantity import read_quantity
from mmrl.rewards.reward import wrong_type
from mmrl.rewards.text import verify_text
from mmrl.types import Completion, Sample, Score

_SEPARATOR = re.compile(r"\bor\b|\band\b|[;|&\n]|\\lor|\\vee|\\quad|\\\\|(?<=\d)\s+(?=\d+(?![\d/]))|,(?!\d{3}(?!\d))")
_STATES_SOMETHING = re.compile(r"[0-9\\]|\b[a-zA-Z]\b")
_DEEPEST = 30  # brackets in brackets


@dataclass(frozen=True, slots=True, kw_only=True)
class Math:
    """1 where answer and gold are mathematically equal, else 0.

    The verifier takes the last expression it finds, so an answer that offers several ("3 or 4", one a line) is refused
    unless the gold is written like that. Time is not bounded (9^9^9^9), so it runs where it can be killed.
    """

    longest: int = 1000  # characters; a longer answer is none
    precision: int = 6  # decimals to which floats are compared
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type not in ("math", "text", "number"):
            raise wrong_type(sample, "math", "math, text, number")
        gold = _written(sample.answer.value)
        answer = answer_text(completion, self.answer_tag)
        if not answer or len(answer) > max(self.longest, 2 * len(gold)):
            return Score(value=0.0, details={"answer": None})
        if folded(answer) == folded(gold) or _same_number(answer, sample.answer.value):
            return Score(value=1.0)
        if _statements(answer) > max(1, _statements(gold)):
            return Score(value=0.0, details={"fault": "several answers"})
        if _depth(answer) > _DEEPEST:
            return Score(value=0.0, details={"fault": "nested too deeply"})
        return Score(value=float(_equal(gold, answer, self.precision)))

    def verify(self, sample: Sample) -> None:
        if sample.answer.type != "number":
            verify_text(sample)

    def prepare(self) -> None:
        _equal("1", "2", 6)


def _written(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _same_number(answer: str, value: Any) -> bool:
    quantity = read_quantity(answer) if isinstance(value, int | float) else None
    return quantity is not None and quantity.value == value


def _equal(gold: str, answer: str, precision: int) -> bool:
    from math_verify import verify  # type: ignore[import-untyped]

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns at every call that we keep the time ourselves
    target, said = _parsed(gold), _parsed_once(answer)
    if not target or not said:
        return False
    return bool(verify(target, said, float_rounding=precision, timeout_seconds=None, raise_on_error=False))


@lru_cache(maxsize=256)
def _parsed(gold: str) -> list[Any]:
    return _parsed_once(gold)


def _parsed_once(text: str) -> list[Any]:
    """The expression in a text: as it is, and, where that finds nothing in LaTeX that lacks its dollars, with them."""
    from math_verify import parse

    found: list[Any] = []
    if "$" not in text and ("\\" in text or "^" in text or "_" in text):
        found = parse(f"${text}$", parsing_timeout=None, raise_on_error=False)
    return found or parse(text, parsing_timeout=None, raise_on_error=False)


def _statements(text: str) -> int:
    """How many expressions a text lists side by side; separators inside brackets do not count."""
    outside: list[str] = []
    depth = 0
    for character in text:
        depth -= character in ")}]" and depth > 0
        outside.append("0" if depth else character)
        depth += character in "({["
    return sum(_STATES_SOMETHING.search(piece) is not None for piece in _SEPARATOR.split("".join(outside)))


def _depth(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest
