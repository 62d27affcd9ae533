"""The first pass over a manifest: a few numbers a row, taken by worker processes.

Whatever must be known of all rows at once (ids, what they show and ask, scores) becomes a 64-bit number or a float a
row: a million rows are 8 MB a column. Texts stay in the file; where one is needed, `row_at` reads it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.shards import Shard, raw_lines, read_lines, row_at, shards_of
from mmrl.curation.workers import run_ordered
from mmrl.progress import Progress
from mmrl.types import Sample

Columns = dict[str, NDArray[Any]]

SOUND, DEFECTIVE, REPEATED_ID = 0, 1, 2  # what became of a row before any verb looked at it


class Extract(Protocol):
    """What a verb wants to know of each row; must pickle."""

    def __call__(self, samples: Sequence[Sample]) -> Columns:
        """Arrays with one entry (or row) per sample, all of the same length."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """No columns."""

    def __call__(self, samples: Sequence[Sample]) -> Columns:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRows:
    """What one shard holds; arrays have an entry for each row that is not blank."""

    shard: Shard
    lines: int  # blank ones too
    line: NDArray[np.int32]  # from 1, within the shard
    start: NDArray[np.int64]  # byte in the file
    state: NDArray[np.uint8]
    ids: NDArray[np.uint64]
    columns: Columns  # 0 for defective rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a manifest holds, a few numbers a row."""

    path: Path
    shards: tuple[Shard, ...]
    rows_per_shard: tuple[int, ...]
    line: NDArray[np.int64]  # from 1, in the file
    start: NDArray[np.int64]  # byte in the file
    state: NDArray[np.uint8]  # SOUND, DEFECTIVE or REPEATED_ID
    columns: Columns  # entries of rows that are not sound mean nothing

    @property
    def rows(self) -> int:
        return len(self.line)

    @property
    def sound(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = self.state == SOUND
        return result

    def sample(self, row: int) -> Sample:
        """A sound row, read again."""
        sample = row_at(str(self.path), int(self.start[row]), self.root).sample
        assert sample is not None
        return sample

    @property
    def root(self) -> Path:
        return Path(os.path.abspath(self.path)).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScanShard:
    extract: Extract

    def __call__(self, shard: Shard) -> ShardRows:
        lines = raw_lines(shard)
        rows = list(read_lines(shard, lines))
        samples = [row.sample for row in rows if row.sample is not None]
        sound = np.array([row.sample is not None for row in rows], dtype=bool)
        columns = {name: _spread(values, sound) for name, values in self.extract(samples).items()}
        return ShardRows(
            shard=shard,
            lines=len(lines),
            line=np.array([row.line for row in rows], dtype=np.int32),
            start=np.array([row.start for row in rows], dtype=np.int64),
            state=np.where(sound, SOUND, DEFECTIVE).astype(np.uint8),
            ids=np.array([number_of(row.id) if row.id else 0 for row in rows], dtype=np.uint64),
            columns=columns,
        )


def scan(
    path: str | os.PathLike[str], extract: Extract, *, workers: int, progress: Progress, label: str = "rows read"
) -> Scan:
    """One pass. A defective row is marked, and so is one whose id stands in an earlier line."""
    shards = shards_of(path)
    parts: list[ShardRows] = []
    with progress.task(f"{label}, MB", max(1, shards[-1].stop >> 20)) as task:
        before = 0
        for part in run_ordered(_ScanShard(extract=extract), shards, workers=min(workers, len(shards))):
            parts.append(part)
            task.advance((part.shard.stop >> 20) - before)
            before = part.shard.stop >> 20
    firsts = np.cumsum([0, *(part.lines for part in parts)])
    line = np.concatenate([p.line.astype(np.int64) + first for p, first in zip(parts, firsts, strict=False)])
    start = np.concatenate([part.start for part in parts])
    state = np.concatenate([part.state for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    names = parts[0].columns.keys() if parts else ()
    columns = {name: np.concatenate([part.columns[name] for part in parts if len(part.line)] or [np.zeros(0)])
               for name in names}  # fmt: skip
    _mark_repeated(Path(path), start, state, ids)
    return Scan(
        path=Path(path),
        shards=tuple(shards),
        rows_per_shard=tuple(len(part.line) for part in parts),
        line=line,
        start=start,
        state=state,
        columns=columns,
    )


def number_of(text: str | bytes) -> int:
    """64 bits that stand for a text: of a million texts, two agree by chance once in 37 million data sets."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def repeated(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions of values that occur more than once, by value, then by position."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    same = ordered[1:] == ordered[:-1]
    among = np.zeros(len(values), dtype=bool)
    among[1:] |= same
    among[:-1] |= same
    return order[among]


def _mark_repeated(path: Path, start: NDArray[np.int64], state: NDArray[np.uint8], ids: NDArray[np.uint64]) -> None:
    """Also of rows that are defective otherwise: an id is taken by the first line that has it."""
    suspects = repeated(ids)
    root = Path(os.path.abspath(path)).parent
    seen: set[str] = set()
    for row in sorted(int(row) for row in suspects if ids[row]):
        id_ = row_at(str(path), int(start[row]), root).id  # exact: numbers may agree by chance
        assert id_ is not None
        if id_ in seen and state[row] == SOUND:
            state[row] = REPEATED_ID
        seen.add(id_)


def _spread(values: NDArray[Any], sound: NDArray[np.bool_]) -> NDArray[Any]:
    if len(values) == len(sound):
        return values
    whole = np.zeros((len(sound), *values.shape[1:]), dtype=values.dtype)
    whole[sound] = values
    return whole


def reasons_of(scan: Scan) -> Mapping[int, str]:
    """The reasons that every verb shares."""
    return {DEFECTIVE: "defective row", REPEATED_ID: "repeated id"}
