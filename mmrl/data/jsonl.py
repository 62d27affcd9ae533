"""JSON lines as people write them: a byte-order mark, CRLF and blank lines are read; what JSON forbids is named."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mmrl.atomic import write_atomically
from mmrl.errors import DataError, nearest

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_json_lines(path: Path) -> Iterator[tuple[int, Any | DataError]]:
    """Yields (line number from 1, value) for every line that is not blank; a DataError stands for an unreadable line.

    Lines end at a newline only: other characters that break lines in some programs may stand inside JSON text.
    """
    check_readable(path)
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            yield from _value(number, line)


def _value(number: int, line: bytes) -> Iterator[tuple[int, Any | DataError]]:
    try:
        text = line.decode("utf-8").lstrip("\ufeff").strip()
    except UnicodeDecodeError as error:
        yield number, DataError(f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8")
        return
    if text:
        try:
            yield number, parse_json(text)
        except DataError as error:
            yield number, error


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One object a line; atomic."""
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_atomically(path, text.encode("utf-8"))


def parse_json(text: str) -> Any:
    """One JSON value. Refuses NaN, infinities, a key given twice and half characters, which `json` lets through."""
    try:
        value = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON ({error.msg} at column {error.colno}); write one JSON object per line") from None
    except UnicodeEncodeError:
        raise DataError("the text holds half of a character (a lone \\ud…); remove it or write it in full") from None
    except RecursionError:
        raise DataError("the JSON is nested too deeply to be read; flatten it") from None
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(f"a number cannot be read ({error}); write it as text or drop it") from None
    return value


def check_readable(path: Path) -> None:
    """A DataError where there is no such file, it cannot be read, or it is UTF-16."""
    try:
        with open(path, "rb") as file:
            begins = file.read(2)
    except FileNotFoundError:
        beside = sorted(p.name for p in path.parent.glob("*.jsonl")) if path.parent.is_dir() else []
        guess = nearest(path.name, beside)
        there = f" In that folder: {', '.join(beside[:10])}." if beside else ""
        raise DataError(
            f"{path} does not exist.{f' Did you mean {guess!r}?' if guess else ''}{there} Give the path of a manifest "
            f"(JSON lines), or build one with `mmrl data build`."
        ) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder. Give the manifest inside it, such as {path / 'train.jsonl'}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    if begins in _UTF16_MARKS:
        raise DataError(f"{path} is UTF-16 text. Manifests are UTF-8; convert it: iconv -f UTF-16 -t UTF-8 {path.name}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise DataError(f"the key {twice[0]!r} is given twice in one object; keep one of them")
    return made


def _no_number(name: str) -> NoReturn:
    raise DataError(f"{name} is not a JSON number and cannot be checked against; drop the row or give a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DataError(f"the number {text} is too large to be represented; give a finite number")
    return value


# Made once: `json.loads` makes one a call, which takes longer than reading a row.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
