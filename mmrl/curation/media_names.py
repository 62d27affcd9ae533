"""A name per media file that equals share: by path, by what it shows, or by how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.keys import Keys, Numbers, row_of_file
from mmrl.curation.looks import alike_pairs, joined
from mmrl.curation.media_facts import SAMPLED_FRAMES
from mmrl.curation.media_index import (
    Examination,
    FactTable,
    MediaIndex,
    Wanted,
    fact_table,
    media_index,
    wanted_of,
)
from mmrl.curation.scan import Scan, mixed, scan
from mmrl.curation.workers import available_cores
from mmrl.errors import ConfigError
from mmrl.progress import Progress

FRAMES_ALIKE = 0.75  # of the sampled frames of two clips, at the same places, that must look alike


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaMatch:
    """When two media files count as the same."""

    by: Literal["content", "path"] = "content"  # pixels of pictures and bytes of videos, or the path alone, unopened
    near: int | None = None  # bits of 64 by which the hashes of pictures that look alike may differ; None: not asked
    index: Path | None = None  # a file to keep what is found about the media in
    seconds: float = 60.0  # a file may take so long to decode
    workers: int | None = None  # processes; None: one a core

    def __post_init__(self) -> None:
        if self.by == "path" and self.near is not None:
            raise ConfigError("--near compares pictures and must open them; leave out --media path, or --near")
        if self.near is not None and not 0 <= self.near <= 16:
            raise ConfigError(f"--near is {self.near}; give 0 to 16 bits. 4 is cautious")

    @property
    def cores(self) -> int:
        return self.workers or available_cores()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRows:
    """Rows whose media have names."""

    scan: Scan
    same: Numbers  # of each entry of flat["file"]
    widest: Numbers  # as `same`, but what looks alike has one name
    broken: NDArray[np.bool_]  # a row: some medium cannot be used
    reasons: tuple[str, ...]  # why, each once
    reason: NDArray[np.int16]  # a row: position in `reasons`
    details: Mapping[int, str]  # a broken row → which file, and why


def named_rows(paths: list[Path], keys: Keys, match: MediaMatch, progress: Progress) -> NamedRows:
    """Reads the manifests and, unless files are told apart by path, every media file they name, once."""
    by_path = match.by == "path"
    depth: Literal["decode", "look"] = "decode" if match.near is None else "look"
    examination = Examination(depth=depth, index=match.index, seconds=match.seconds, workers=match.workers)
    opening: AbstractContextManager[MediaIndex | None] = nullcontext() if by_path else media_index(examination)
    with opening as index:
        add = (lambda extra: None) if index is None else index.add
        rows = scan(paths, keys, workers=match.cores, progress=progress, on_extra=add)
        if index is None:
            files = rows.flat.get("file", np.zeros(0, dtype=np.uint64))
            nobody = np.zeros(rows.rows, dtype=bool)
            return NamedRows(scan=rows, same=files, widest=files, broken=nobody, reasons=(), details={},
                             reason=np.zeros(rows.rows, dtype=np.int16))  # fmt: skip
        index.complete(progress)
        return _named(rows, index, match)


def _named(rows: Scan, index: MediaIndex, match: MediaMatch) -> NamedRows:
    table = fact_table(index, looks=match.near is not None)
    files = rows.flat.get("file", np.zeros(0, dtype=np.uint64))
    place = table.place(files)
    same = mixed(table.digest, table.video.astype(np.uint64))
    widest = same if match.near is None else _families(table, same, match.near)
    owner = row_of_file(rows)
    broken = np.zeros(rows.rows, dtype=bool)
    reason = np.zeros(rows.rows, dtype=np.int16)
    reasons: list[str] = []
    details: dict[int, str] = {}
    for entry in np.flatnonzero(table.broken[place]).tolist() if len(place) else []:
        row = int(owner[entry])
        if broken[row]:
            continue
        broken[row] = True
        fact = index.of(*_file_of(rows, row, entry - int(np.searchsorted(owner, row))))
        if fact.reason not in reasons:
            reasons.append(fact.reason)
        reason[row] = reasons.index(fact.reason)
        details[row] = fact.message
    return NamedRows(
        scan=rows,
        same=same[place],
        widest=widest[place],
        broken=broken,
        reasons=tuple(reasons),
        reason=reason,
        details=details,
    )


def _file_of(rows: Scan, row: int, number: int) -> Wanted:
    return wanted_of(rows.sample(row).media)[number]


def _families(table: FactTable, same: Numbers, bits: int) -> Numbers:
    """Equal names for files that are the same or look alike, directly or through others."""
    assert table.looks is not None
    count = len(table.number)
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    pairs = [np.stack([first[inverse], np.arange(count)], axis=1)]
    alone = first[~table.broken[first] & ~table.video[first]]  # one picture of those that are the same
    pairs.append(alone[alike_pairs(table.looks[alone], bits=bits)])
    if table.frames is not None and len(table.clips) > 1:
        near = alike_pairs(table.frames.reshape(-1), bits=bits)
        near = near[near[:, 0] % SAMPLED_FRAMES == near[:, 1] % SAMPLED_FRAMES] // SAMPLED_FRAMES
        of_clips, frames = np.unique(near, axis=0, return_counts=True)
        pairs.append(table.clips[of_clips[frames >= FRAMES_ALIKE * SAMPLED_FRAMES]])
    return joined(np.concatenate(pairs), count).astype(np.uint64)
