"""A manifest in pieces: byte ranges that begin and end at a line, and the rows in one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmrl.curation.plain import plain_sample
from mmrl.data.jsonl import check_readable, parse_json
from mmrl.data.samples import examine_row
from mmrl.errors import DataError
from mmrl.types import Sample

SHARD_BYTES = 2 << 20  # of a manifest that one worker holds at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Some lines of a manifest."""

    path: str
    start: int  # first byte
    stop: int  # last byte + 1
    number: int  # from 0


class Row(NamedTuple):
    """One line that is not blank."""

    line: int  # from 1, within its shard
    start: int  # byte offset in the file
    raw: bytes  # without the newline
    fields: Any  # the JSON value; None where it cannot be read
    sample: Sample | None  # None: the row is defective
    defects: list[str]  # why

    @property
    def id(self) -> str | None:
        """As far as the row has one."""
        id_ = self.fields.get("id") if isinstance(self.fields, dict) else None
        return id_ if isinstance(id_, str) and id_ else None


def shards_of(path: str | os.PathLike[str], *, size: int = SHARD_BYTES) -> list[Shard]:
    """The pieces of a manifest, in order. A file that is missing, a folder or UTF-16 raises a DataError."""
    target = Path(path)
    check_readable(target)
    whole = target.stat().st_size
    cuts = [0]
    with open(target, "rb") as file:
        while cuts[-1] + size < whole:
            file.seek(cuts[-1] + size)
            file.readline()
            if file.tell() >= whole:
                break
            cuts.append(file.tell())
    stops = [*cuts[1:], whole]
    name = os.fspath(path)
    return [
        Shard(path=name, start=start, stop=stop, number=number)
        for number, (start, stop) in enumerate(zip(cuts, stops, strict=True))
    ]


def raw_lines(shard: Shard) -> list[bytes]:
    """All lines of a shard, blank ones too, without newlines."""
    with open(shard.path, "rb") as file:
        file.seek(shard.start)
        lines = file.read(shard.stop - shard.start).split(b"\n")
    if lines and not lines[-1]:
        lines.pop()  # what stands after the last newline
    return lines


def read_rows(shard: Shard) -> Iterator[Row]:
    """Every row of a shard, read and checked as `read_manifest` does."""
    return read_lines(shard, raw_lines(shard))


def read_lines(shard: Shard, lines: Sequence[bytes]) -> Iterator[Row]:
    """The rows of a shard whose lines were read already."""
    root = Path(os.path.abspath(shard.path)).parent
    start = shard.start
    for line, raw in enumerate(lines, start=1):
        row = read_row(raw, line=line, start=start, root=root)
        if row is not None:
            yield row
        start += len(raw) + 1


def read_row(raw: bytes, *, line: int, start: int, root: Path) -> Row | None:
    """One line; None where it is blank."""
    try:
        text = raw.decode("utf-8").lstrip("\ufeff").strip()
    except UnicodeDecodeError as error:
        defect = f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
        return Row(line, start, raw, None, None, [defect])
    if not text:
        return None
    try:
        fields = parse_json(text)
    except DataError as error:
        return Row(line, start, raw, None, None, [str(error)])
    plain = plain_sample(fields, str(root))
    if plain is not None:
        return Row(line, start, raw, fields, plain, [])
    sample, defects = examine_row(fields, root=root)
    return Row(line, start, raw, fields, sample if not defects else None, defects)


def row_at(path: str, start: int, root: Path) -> Row:
    """The row that begins at a byte of a manifest."""
    with open(path, "rb") as file:
        file.seek(start)
        raw = file.readline().rstrip(b"\n")
    row = read_row(raw, line=0, start=start, root=root)
    assert row is not None, f"{path}: there is no row at byte {start}"
    return row
