"""Mistakes in a filter expression, pointed at: the line, a caret below the place, and what may be meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mmrl.errors import ConfigError, nearest

_FOREIGN = (("&&", "and"), ("||", "or"), ("===", "=="))  # what other languages write


def pointed(text: str, line: int, column: int, why: str) -> ConfigError:
    """What is wrong at a line and a column, both from 1."""
    shown = text.split("\n")[line - 1] if text else ""
    where = f"column {column}" if "\n" not in text else f"line {line}, column {column}"
    return ConfigError(f"filter expression, {where}: {why}\n  {shown}\n  {' ' * (column - 1)}^")


def wrong_syntax(text: str, error: SyntaxError) -> ConfigError:
    """What Python's parser refused, in the words of this language."""
    why = f"{error.msg}"
    for wrong, right in _FOREIGN:
        if wrong in text:
            why = f"{wrong} is not part of the language; write {right}"
    if re.search(r"(?<![=!<>])=(?!=)", text):
        why = "= is not part of the language; write == to compare"
    line = min(error.lineno or 1, text.count("\n") + 1)
    column = error.offset or 1
    if line != error.lineno or not error.offset or not error.text or not error.text[column - 1 :].strip():
        line, column = text.count("\n") + 1, len(text.split("\n")[-1]) + 1  # it ends too early
    return pointed(text, line, column, why)


def meant(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word; empty where none is near."""
    guess = nearest(word, list(known))
    return f" Did you mean {guess!r}?" if guess else ""
