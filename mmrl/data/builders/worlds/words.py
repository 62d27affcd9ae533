"""Words that no language has, so that no model knows anything about them."""

from __future__ import annotations

import random

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "st", "tr", "pl", "sk")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "n", "t", "r", "l", "s", "m", "k")


def invented_words(dice: random.Random, count: int, *, syllables: int | None = None) -> list[str]:
    """Different words of at least three letters; of one to three syllables where their number is not given."""
    found: dict[str, None] = {}
    while len(found) < count:
        length = dice.choice((1, 2, 2, 3)) if syllables is None else syllables
        word = "".join(dice.choice(_ONSETS) + dice.choice(_VOWELS) for _ in range(length)) + dice.choice(_CODAS)
        if len(word) >= 3:
            found[word] = None
    return list(found)
