"""What the formats share: reading a field of a foreign row, and saying why a row cannot be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.data.answers import LETTERS

ForeignRow = Mapping[str, Any]
ManifestRow = dict[str, Any]  # as in a manifest, media paths relative to the folder of the media

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BARE_LETTERS = re.compile(r"[A-Za-z](\s*,\s*[A-Za-z])*")


class Unfit(Exception):
    """A row that cannot become a sample: it is left out and counted by `reason`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


def text_of(row: ForeignRow, key: str) -> str:
    """A field that must hold text; numbers are taken as their text."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        raise Unfit(f"no {key}", f"the field {key!r} is missing, empty or no text")
    return str(value)


def tagged_answer(text: str) -> str:
    """What stands between the first answer tags; the whole text where there are none."""
    match = _ANSWER.search(text)
    return (match[1] if match else text).strip()


def letters_of(text: str) -> list[str]:
    """`B`, `b.`, `(B)`, `B: a cup` → ["B"]; `A,C` → ["A", "C"]; anything else → []."""
    bare = text.strip()
    if _BARE_LETTERS.fullmatch(bare):
        return [letter.upper() for letter in re.split(r"\s*,\s*", bare)]
    match = re.match(r"(?:\(([A-Z])\)|([A-Z])[.:)])", bare, re.IGNORECASE)
    return [(match[1] or match[2]).upper()] if match else []


def without_letters(options: Sequence[Any]) -> list[str]:
    """Option texts without `A.`, `(A)` or `A:` in front, where all of them have their own letter there."""
    texts = [str(option).strip() for option in options]
    bare = []
    for letter, text in zip(LETTERS, texts, strict=False):
        match = re.match(rf"(?:\({letter}\)|{letter}[.:)])\s*(?=\S)", text)
        if match is None:
            return texts
        bare.append(text[match.end() :])
    return bare if len(bare) == len(texts) else texts


def choice_answer(letters: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """The answer object for one or several letters of the given options."""
    beyond = [letter for letter in letters if letter not in LETTERS[: len(options)]]
    if not letters or beyond:
        raise Unfit(
            "answer is no option", f"the answer names {', '.join(beyond) or 'no letter'} of {len(options)} options"
        )
    if len(letters) == 1:
        return {"type": "choice", "value": letters[0]}
    return {"type": "choices", "value": sorted(set(letters))}


def number_of(text: str) -> float:
    """`1,234`, `3.50`, `-2`, `12 ` → a number; percent signs, units and words do not belong to one."""
    bare = text.strip()
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?", bare):  # `1,2` may be two numbers, or one and a fifth: refused
        bare = bare.replace(",", "")
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", bare):
        raise Unfit("answer is no number", f"the answer {text.strip()[:40]!r} is no number")
    return int(bare) if re.fullmatch(r"[-+]?\d{1,300}", bare) else float(bare)
