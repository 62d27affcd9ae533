"""The first pass over a manifest: a few numbers a row, taken by worker processes.

Whatever must be known of all rows at once (ids, what they show and ask, scores) becomes a 64-bit number or a float a
row: a million rows are 8 MB a column. Texts stay in the file; where one is needed, `row_at` reads it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.shards import Row, Shard, raw_lines, read_lines, row_at, shards_of
from mmrl.curation.workers import run_ordered
from mmrl.progress import Progress
from mmrl.types import Sample

Columns = dict[str, NDArray[Any]]

SOUND, DEFECTIVE, REPEATED_ID = 0, 1, 2  # what became of a row before any verb looked at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a verb wants to know of the rows of one shard."""

    columns: Columns = field(default_factory=dict)  # one entry a sample
    flat: Columns = field(default_factory=dict)  # any number of entries, in the order of the samples
    extra: Any = None  # given to `on_extra` and forgotten


class Extract(Protocol):
    """What a verb wants to know of each row; must pickle."""

    def __call__(self, samples: Sequence[Sample]) -> Extracted: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """No columns."""

    def __call__(self, samples: Sequence[Sample]) -> Extracted:
        return Extracted()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShardRows:
    """What one shard holds; arrays have an entry for each row that is not blank."""

    shard: Shard
    lines: int  # blank ones too
    line: NDArray[np.int32]  # from 1, within the shard
    start: NDArray[np.int64]  # byte in the file
    state: NDArray[np.uint8]
    ids: NDArray[np.uint64]
    extracted: Extracted


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What some manifests hold, one after the other, a few numbers a row."""

    files: tuple[Path, ...]
    shards: tuple[Shard, ...]
    rows_per_shard: tuple[int, ...]
    file: NDArray[np.int16]  # position in `files`
    line: NDArray[np.int64]  # from 1, in the file
    start: NDArray[np.int64]  # byte in the file
    state: NDArray[np.uint8]  # SOUND, DEFECTIVE or REPEATED_ID
    ids: NDArray[np.uint64]  # number of the id
    columns: Columns  # entries of rows that are not sound mean nothing
    flat: Columns

    @property
    def rows(self) -> int:
        return len(self.line)

    @property
    def sound(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.state == SOUND
        return result

    def row(self, row: int) -> Row:
        """A row, read again."""
        path = self.files[self.file[row]]
        return row_at(str(path), int(self.start[row]), root_of(path))

    def sample(self, row: int) -> Sample:
        """A sound row, read again."""
        sample = self.row(row).sample
        assert sample is not None
        return sample

    def name(self, row: int) -> str:
        """A row in words: its id and where it stands."""
        return f"{self.row(row).id!r} ({self.files[self.file[row]].name}:{int(self.line[row])})"

    def column(self, name: str) -> NDArray[Any]:
        """A column; empty where there is no row."""
        return self.columns.get(name, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScanShard:
    extract: Extract

    def __call__(self, shard: Shard) -> _ShardRows:
        lines = raw_lines(shard)
        rows = list(read_lines(shard, lines))
        samples = [row.sample for row in rows if row.sample is not None]
        sound = np.array([row.sample is not None for row in rows], dtype=bool)
        found = self.extract(samples)
        columns = {name: _spread(values, sound) for name, values in found.columns.items()}
        return _ShardRows(
            shard=shard,
            lines=len(lines),
            line=np.array([row.line for row in rows], dtype=np.int32),
            start=np.array([row.start for row in rows], dtype=np.int64),
            state=np.where(sound, SOUND, DEFECTIVE).astype(np.uint8),
            ids=np.array([number_of(row.id) if row.id else 0 for row in rows], dtype=np.uint64),
            extracted=Extracted(columns=columns, flat=found.flat, extra=found.extra),
        )


def scan(
    paths: Sequence[str | os.PathLike[str]],
    extract: Extract,
    *,
    workers: int,
    progress: Progress,
    on_extra: Callable[[Any], None] = lambda extra: None,
) -> Scan:
    """One pass. A defective row is marked, and so is one whose id stands in an earlier line of its file."""
    files = tuple(Path(path) for path in paths)
    shards = [(number, shard) for number, file in enumerate(files) for shard in shards_of(file)]
    work = run_ordered(_ScanShard(extract=extract), [shard for _, shard in shards], workers=min(workers, len(shards)))
    parts: list[_ShardRows] = []
    lines: list[NDArray[np.int64]] = []
    before = 0  # lines of the file before the shard
    with progress.task("reading manifests, shards", len(shards)) as task:
        for (_, shard), part in zip(shards, work, strict=True):
            on_extra(part.extracted.extra)
            before = 0 if shard.number == 0 else before
            lines.append(part.line.astype(np.int64) + before)
            before += part.lines
            parts.append(replace(part, extracted=replace(part.extracted, extra=None)))
            task.advance()
    counts = tuple(len(part.line) for part in parts)
    file = np.repeat(np.array([number for number, _ in shards], dtype=np.int16), counts)
    start = np.concatenate([part.start for part in parts])
    state = np.concatenate([part.state for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    filled = [part.extracted for part in parts if len(part.line)]
    del parts
    found = Scan(
        files=files,
        shards=tuple(shard for _, shard in shards),
        rows_per_shard=counts,
        file=file,
        line=np.concatenate(lines),
        start=start,
        state=state,
        ids=ids,
        columns=_joined([extracted.columns for extracted in filled]),
        flat=_joined([extracted.flat for extracted in filled]),
    )
    _mark_repeated(found)
    return found


def _joined(parts: Sequence[Columns]) -> Columns:
    """Column by column; the parts are emptied, so that no two columns are in memory twice at a time."""
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0] if parts else ())}


def root_of(path: str | os.PathLike[str]) -> Path:
    """The folder that a manifest's paths are relative to."""
    return Path(os.path.abspath(path)).parent


def number_of(text: str | bytes) -> int:
    """64 bits that stand for a text. Some pair of a million texts agrees by chance in one of 37 million data sets."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def mixed(*values: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """One number for several, in order (the finaliser of splitmix64 after each)."""
    whole: NDArray[np.uint64] = np.zeros(1, dtype=np.uint64)
    for value in values:
        whole = whole + (np.uint64(value) if isinstance(value, int) else value) + np.uint64(0x9E3779B97F4A7C15)
        whole = (whole ^ (whole >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        whole = (whole ^ (whole >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        whole = whole ^ (whole >> np.uint64(31))
    return whole


def repeated(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions of values that occur more than once, by value, then by position."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    same = ordered[1:] == ordered[:-1]
    among = np.zeros(len(values), dtype=bool)
    among[1:] |= same
    among[:-1] |= same
    return order[among]


def _mark_repeated(found: Scan) -> None:
    """Also of rows that are defective otherwise: an id is taken by the first line that has it."""
    seen: set[tuple[int, str]] = set()
    for row in sorted(int(row) for row in repeated(mixed(found.ids, found.file.astype(np.uint64)))):
        id_ = found.row(row).id if found.ids[row] else None  # exact: numbers may agree by chance
        if id_ is None:
            continue
        key = (int(found.file[row]), id_)
        if key in seen and found.state[row] == SOUND:
            found.state[row] = REPEATED_ID
        seen.add(key)


def _spread(values: NDArray[Any], sound: NDArray[np.bool_]) -> NDArray[Any]:
    if len(values) == len(sound):
        return values
    whole = np.zeros((len(sound), *values.shape[1:]), dtype=values.dtype)
    whole[sound] = values
    return whole
