"""Texts in a form in which they can be compared."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_PUNCTUATION = re.compile(r"[^\w\s]+")


def folded(text: str) -> str:
    """Compatibility characters unified, case removed, white space collapsed."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def plain(text: str) -> str:
    """`folded`, and punctuation at both ends removed unless nothing else is there."""
    base = folded(text)
    return base.strip(" .,;:!?\"'`*()[]{}$") or base


@lru_cache(maxsize=4096)
def plain_choices(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The option texts of a sample, as `plain` texts. Cached: a group asks for the same ones G times."""
    return tuple(plain(choice) for choice in choices)


def without_punctuation(text: str) -> str:
    """Punctuation replaced by spaces, white space collapsed."""
    return " ".join(_PUNCTUATION.sub(" ", text).split())
