"""Mathematical equality, decided by the `math-verify` package (SymPy and a LaTeX grammar)."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.normalize import folded
from mmrl.rewards.quantity import read_quantity
from mmrl.rewards.reward import wrong_type
from mmrl.rewards.text import verify_text
from mmrl.types import Completion, Sample, Score

_SEPARATOR = re.compile(
    r"\b(?:or|and|but|vs|to)\b|[;:|&\n→]|->|\\(?:lor|vee|quad|to|implies|(?:right|Right)arrow)(?![a-z])|\\\\|\$\s+\$"
    r"|(?<=\d)\s+(?=\d+(?![\d/]))|,(?!\d{3}(?!\d))"
)
_RELATION = re.compile(r"[<>≤≥≠]|\\(?:le|ge|leq|geq|lt|gt|ne|neq)(?![a-z])")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\s?\{([^{}]*)\}")
_PROSE = re.compile(r"\$|(?<![\\a-zA-Z])[a-zA-Z]{3,}")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_PLAIN = re.compile(r"\s*[-+]?[\d,]*\.?\d+\s*\$?\s*")
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_STATES_SOMETHING = re.compile(r"[0-9\\]|\b[a-zA-Z]\b")
_DEEPEST = 30  # brackets in brackets


@dataclass(frozen=True, slots=True, kw_only=True)
class Math:
    """1 where answer and gold are mathematically equal, else 0.

    The verifier takes the last expression it finds, so an answer that offers several ("3 or 4", "not 3 but 4", "3 = 4",
    one a line) is refused unless the gold is written like that. Its time is not bounded (9^9^9^9), so it runs where it
    can be killed.
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
            return unanswered(completion, "short enough", self.answer_tag)
        if folded(answer) == folded(gold) or _same_number(answer, sample.answer.value):
            return Score(value=1.0)
        if _says_several(answer, gold):
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
    """The expression in a text, read as LaTeX unless it is prose or brings dollars of its own."""
    from math_verify import parse

    prose = _PROSE.search(_TEXT.sub(" ", text)) is not None
    for attempt in (text, f"${text}$") if prose else (f"${text}$", text):
        found: list[Any] = parse(attempt, parsing_timeout=None, raise_on_error=False)
        if found:
            return found
    return []


def _says_several(answer: str, gold: str) -> bool:
    """Whether an answer offers more than the gold asks for: a list, a chain of different numbers, a relation, or a
    sentence with several numbers where one is asked for.
    """
    answer, gold = _TEXT.sub(r" \1 ", answer), _TEXT.sub(r" \1 ", gold)
    if _statements(answer) > max(1, _statements(gold)) or (_RELATION.search(answer) and not _RELATION.search(gold)):
        return True
    sides = {float(side.strip(" $").replace(",", "")) for side in answer.split("=") if _PLAIN.fullmatch(side)}
    in_words = _WORD.search(answer) and read_quantity(gold) is not None and len(set(_DIGITS.findall(answer))) > 1
    return len(sides) > 1 or bool(in_words and read_quantity(answer) is None)


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
