"""The rows of one file or folder, by its suffix. None of the readers holds more than a part of a large file.

.jsonl              one object a line
.json               a list of objects; an object of objects (each gets its name as `key`); JSON lines
.csv .tsv           the head names the columns
.txt                {"line": …}
.parquet .arrow     see tables.py
.tar                see tar.py
a folder            see folder.py
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrl.data.jsonl import parse_json, read_json_lines
from mmrl.data.readers.folder import folder_rows
from mmrl.data.readers.tables import table_rows
from mmrl.data.readers.tar import tar_rows
from mmrl.errors import DataError

Rows = Iterator[tuple[int, Any]]  # (number from 1, row or a DataError that stands for an unreadable one)
_BLOCK = 1 << 20


def read_rows(path: Path) -> Rows:
    """All rows. A file that cannot be read at all raises a DataError."""
    if path.is_dir():
        return folder_rows(path, table=_metadata)
    reader = _READERS.get(path.suffix.lower(), _json)
    return reader(path)


def count_rows(path: Path) -> int:
    """How many rows there are, about, as far as that is cheap to say; 0 where it is not. For progress."""
    if path.suffix.lower() in (".jsonl", ".csv", ".tsv", ".txt") and path.is_file():
        with open(path, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
    if path.suffix.lower() == ".json" and path.is_file():
        return _estimated(path)
    if path.suffix.lower() == ".parquet" and path.is_file():
        from mmrl.data.readers.tables import parquet_length

        return parquet_length(path)
    return 0


def _estimated(path: Path) -> int:
    """Of a JSON list: its size by the size of its first item."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        text = file.read(_BLOCK).lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text[1:].lstrip())
    except ValueError:
        return 0
    return path.stat().st_size // (end + 2) if text.startswith("[") else 0


def _metadata(path: Path) -> Rows:
    return _READERS[path.suffix.lower()](path)


def _json(path: Path) -> Rows:
    """A list, an object of objects, or JSON lines: the first character that is not blank, and the first line, tell."""
    try:
        with open(path, "rb") as file:
            start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except OSError:
        start = b""  # read_json_lines says what is wrong
    if start == b"[":
        return _json_list(path)
    if start == b"{" and path.suffix.lower() == ".json" and not _is_lines(path):
        return _json_object(path)
    return read_json_lines(path)


def _is_lines(path: Path) -> bool:
    """Whether the first line alone is a JSON value, and something follows."""
    with open(path, "rb") as file:
        try:
            json.loads(file.readline().decode("utf-8-sig"))
        except ValueError:
            return False
        return any(line.strip() for line in file)


def _json_list(path: Path) -> Rows:
    """The items of a list, without holding the list."""
    decoder = json.JSONDecoder()
    number = 0
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = ""
            while not text:
                text = file.read(_BLOCK).lstrip()  # it is known to begin with [
            text = text[1:]
            while True:
                text = text.lstrip(" \t\r\n,")
                if text.startswith("]"):
                    return
                try:
                    _, end = decoder.raw_decode(text)
                    if end == len(text):  # a number may go on in the next block
                        raise ValueError
                except ValueError:
                    more = file.read(max(_BLOCK, len(text)))
                    if not more:
                        where = f"after item {number}"
                        raise DataError(
                            f"{path} cannot be read as a JSON list: it breaks off or is damaged {where}"
                        ) from None
                    text += more
                    continue
                number += 1
                try:
                    yield number, parse_json(text[:end])
                except DataError as error:
                    yield number, error
                text = text[end:]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as a JSON list: it is not UTF-8 ({error.reason})") from None


def _json_object(path: Path) -> Rows:
    try:
        value = parse_json(path.read_text(encoding="utf-8-sig"))
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    if all(isinstance(item, Mapping) for item in value.values()):
        for number, (key, item) in enumerate(value.items(), start=1):
            yield number, {"key": key, **item}
    else:
        yield 1, value


def _csv(path: Path) -> Rows:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # pictures may be written in a cell
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            for number, row in enumerate(reader, start=1):
                if None in row or None in row.values():
                    yield number, DataError("the row has more or fewer cells than the head")
                else:
                    yield number, {key: value for key, value in row.items() if value != ""}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from None


def _text(path: Path) -> Rows:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, {"line": line.rstrip("\r\n")}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as text: {error}") from None


_READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".jsonl": read_json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _text,
    ".parquet": table_rows,
    ".arrow": table_rows,
    ".tar": tar_rows,
}
