"""What the formats share: reading a field of a foreign row, and saying why a row cannot be used."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.types import LETTERS

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


def media_of(cell: Any, type_: str = "image") -> dict[str, Any]:
    """A media item from what data sets write in a cell: a path, encoded bytes, {"bytes", "path"}, a data address, or a
    decoded picture.
    """
    if isinstance(cell, Mapping):
        if cell.get("bytes"):
            return _embedded(cell["bytes"], type_)
        cell = cell.get("path")
    if isinstance(cell, bytes | bytearray):
        return _embedded(bytes(cell), type_)
    if isinstance(cell, str) and cell.startswith("data:"):
        return _embedded(_decoded(cell.partition(",")[2]), type_)
    if isinstance(cell, str) and len(cell) > 400 and _BASE64.fullmatch(cell[:400]):
        return _embedded(_decoded(cell), type_)
    if isinstance(cell, str) and cell.strip():
        return {"type": type_, "path": relative_path(cell)}
    if hasattr(cell, "save"):  # a decoded picture
        file = io.BytesIO()
        cell.save(file, format="PNG")
        return _embedded(file.getvalue(), type_)
    raise Unfit(f"no {type_}", f"the {type_} is missing, empty or in no known form")


def media_list(value: Any, type_: str) -> list[dict[str, Any]]:
    """Media items from a cell that holds one or a list of them; none from an empty one."""
    if value is None or value == "" or (isinstance(value, list | tuple) and not value):
        return []
    return [media_of(cell, type_) for cell in (value if isinstance(value, list | tuple) else [value])]


def relative_path(text: str) -> str:
    """A path as these data sets write it: `./x` and `x` start from the media folder, `/x` stays, `\\` is `/`."""
    path = text.strip().replace("\\", "/").removeprefix("file://").removeprefix("./")
    if ".." in path.split("/"):
        raise Unfit("path leaves the media folder", f"the path {text[:60]!r} goes up with '..'")
    return path


def auto_answer(gold: Any, type_: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """The answer object of a gold that may be a letter, an option's text or its number, a number, a box or a text.

    type_: an answer type, or `auto`: with options a choice, else a number where the whole gold is one, else a text.
    """
    if isinstance(gold, list | tuple) and type_ in ("auto", "text", "choice", "number") and len(gold) == 1:
        gold = gold[0]
    if options and type_ in ("auto", "choice", "choices"):
        return _option(gold, options)
    if isinstance(gold, str):
        gold = tagged_answer(gold)
    if type_ in ("box", "boxes", "point", "span", "spans", "choices"):
        return {"type": type_, "value": _json_value(gold, type_)}
    if gold is None or isinstance(gold, bool | Mapping) or not str(gold).strip():
        raise Unfit("no answer", "the answer is missing, empty or in no known form")
    text = str(gold).strip()
    if type_ in ("number", "auto"):
        try:
            return {"type": "number", "value": number_of(text)}
        except Unfit:
            if type_ == "number":
                raise
    if type_ == "choice":
        letters = letters_of(text)
        if len(letters) != 1:
            raise Unfit("answer is no option", f"the answer {text[:40]!r} is no letter")
        return {"type": "choice", "value": letters[0]}
    return {"type": "math" if type_ == "math" else "text", "value": text}


def _option(gold: Any, options: Sequence[str]) -> dict[str, Any]:
    if isinstance(gold, bool):
        gold = "yes" if gold else "no"
    if isinstance(gold, int):
        if not 0 <= gold < len(options):
            raise Unfit("answer is no option", f"the answer is number {gold} of {len(options)} options, from 0")
        return choice_answer([LETTERS[gold]], options)
    if isinstance(gold, list | tuple):
        return choice_answer([LETTERS[_place(str(text), options)] for text in gold], options)
    text = tagged_answer(str(gold if gold is not None else ""))
    if text in options:
        return choice_answer([LETTERS[list(options).index(text)]], options)
    letters = letters_of(text)
    return choice_answer(letters or [LETTERS[_place(text, options)]], options)


def _place(text: str, options: Sequence[str]) -> int:
    folded = [" ".join(option.split()).lower() for option in options]
    wanted = " ".join(text.split()).lower()
    if folded.count(wanted) != 1:
        letters = letters_of(text)
        if len(letters) == 1 and letters[0] in LETTERS[: len(options)]:
            return LETTERS.index(letters[0])
        raise Unfit("answer is no option", f"the answer {text[:40]!r} is none of the {len(options)} options")
    return folded.index(wanted)


def _json_value(gold: Any, type_: str) -> Any:
    if isinstance(gold, str):
        try:
            gold = json.loads(gold)
        except ValueError:
            gold = None
    if not isinstance(gold, list | tuple):
        raise Unfit(f"answer is no {type_}", f"the answer is no list, and a {type_} is one")
    return list(gold)


def _embedded(content: bytes, type_: str) -> dict[str, Any]:
    if not content:
        raise Unfit("empty file", "the embedded file has 0 bytes")
    suffix = next((suffix for start, suffix in _SIGNATURES if content.startswith(start)), "")
    if content[4:8] == b"ftyp":
        suffix = ".avif" if content[8:12] in (b"avif", b"avis") else ".mp4"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        suffix = ".webp"
    if not suffix:
        raise Unfit("unknown format", "the embedded file begins like no picture or clip that is known")
    return {"type": type_, "content": content, "suffix": suffix}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unfit("embedded file is no base64", "the embedded file is no base64 text") from None


_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")
_SIGNATURES = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"\x1aE\xdf\xa3", ".webm"),
)
