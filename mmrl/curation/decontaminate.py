"""Leaving out training samples that give away the answers of an evaluation set.

A sample goes if it shows any picture or clip of the evaluation set, whatever it asks about it: what a policy learns of
a picture it can use for every question. A sample without media goes if it asks a question of the evaluation set, or, on
request, one in nearly the same words. `text="always"` compares the questions of samples with media too, for benchmarks
whose pictures exist in other cuts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.keys import Keys, row_of_file
from mmrl.curation.media_names import MediaMatch, NamedRows, named_rows
from mmrl.curation.near_text import BANDS, overlap
from mmrl.curation.report import Report
from mmrl.curation.scan import Scan, mixed
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.errors import ConfigError, DataError
from mmrl.progress import Progress, SilentProgress

REASONS = ("media of the evaluation set", "question of the evaluation set", "question like one of the evaluation set")
MEDIA, QUESTION, LIKE = range(3)
MOST_COMPARED = 64  # held-out questions that share a band with one of training


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMatch:
    """Which questions count as the same."""

    when: Literal["without-media", "always"] = "without-media"  # samples whose questions are compared
    near: float | None = None  # overlap from which two questions are nearly the same, in (0, 1]; None: equal ones only

    def __post_init__(self) -> None:
        if self.near is not None and not 0 < self.near <= 1:
            raise ConfigError(f"--near-text is {self.near:g}; give a share above 0 and up to 1. 0.8 is cautious")


def decontaminate_manifest(
    path: str | os.PathLike[str],
    against: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    match: MediaMatch | None = None,
    text: TextMatch | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Writes the samples of `path` that share nothing with the manifests `against`."""
    bar, how, words = progress or SilentProgress(), match or MediaMatch(), text or TextMatch()
    keys = Keys(question=True, near_text=words.near is not None)
    named = named_rows([Path(path), *map(Path, against)], keys, how, bar)
    scan = named.scan
    output, reason, names = verdict_of(scan, [*REASONS, *named.reasons])
    ours = scan.sound & (scan.file == 0)
    broken = ours & named.broken
    output[broken] = -1
    reason[broken] = 2 + len(REASONS) + named.reason[broken]
    other = np.full(scan.rows, -1, dtype=np.int64)

    def leave(met: NDArray[np.int64], why: int) -> None:
        rows = np.flatnonzero(ours & (output >= 0) & (met >= 0))
        output[rows], other[rows], reason[rows] = -1, met[rows], 2 + why

    held = scan.sound & (scan.file > 0)
    _refuse_unreadable(scan, held)
    leave(_media_met(scan, named, held), MEDIA)
    asked = (scan.column("files") == 0) | (words.when == "always")
    leave(_first_with(scan.column("question"), ours & asked, held & asked), QUESTION)
    if words.near is not None:
        leave(_like(scan, ours & asked & (output >= 0), held & asked, words.near), LIKE)
    verdict = Verdict(output=output, reason=reason, reasons=names, other=other, detail="shared with {other}",
                      details=named.details, files=1)  # fmt: skip
    notes = _unusable(scan, named, held)
    return transfer(scan, verdict, [out], verb="decontaminate", dry_run=dry_run, workers=how.cores, progress=bar,
                    notes=notes)  # fmt: skip


def _media_met(scan: Scan, named: NamedRows, held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A row: the first held-out row that shows one of its media; −1: none."""
    owner = row_of_file(scan)
    met = np.full(scan.rows, -1, dtype=np.int64)
    if len(owner) == 0:
        return met
    usable = ~named.broken[owner]
    shown_there = np.flatnonzero(held[owner] & usable)
    if len(shown_there) == 0:
        return met
    values, first = np.unique(named.widest[shown_there], return_index=True)
    place = np.searchsorted(values, named.widest).clip(max=len(values) - 1)
    hit = np.flatnonzero((values[place] == named.widest) & usable)[::-1]  # backwards: the first medium decides
    met[owner[hit]] = owner[shown_there[first[place[hit]]]]
    return met


def _first_with(key: NDArray[np.uint64], ours: NDArray[np.bool_], held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A row of ours: the first held-out row with an equal key; −1: none."""
    met = np.full(len(key), -1, dtype=np.int64)
    there, rows = np.flatnonzero(held), np.flatnonzero(ours)
    if len(there) and len(rows):
        values, first = np.unique(key[there], return_index=True)
        place = np.searchsorted(values, key[rows]).clip(max=len(values) - 1)
        hit = values[place] == key[rows]
        met[rows[hit]] = there[first[place[hit]]]
    return met


def _like(scan: Scan, ours: NDArray[np.bool_], held: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """A row of ours: the first held-out row whose question is nearly the same; −1: none."""
    signature = scan.column("signature")
    candidates: dict[int, set[int]] = {}
    for band in range(BANDS):
        key = mixed(signature[:, band].astype(np.uint64))
        there = np.flatnonzero(held)
        there = there[np.argsort(key[there], kind="stable")]
        low = np.searchsorted(key[there], key, side="left")
        high = np.searchsorted(key[there], key, side="right")
        for row in np.flatnonzero(ours & (high > low)).tolist():
            candidates.setdefault(row, set()).update(
                there[low[row] : min(high[row], low[row] + MOST_COMPARED)].tolist()
            )
    met = np.full(scan.rows, -1, dtype=np.int64)
    for row, others in candidates.items():
        question = scan.sample(row).question
        alike = (one for one in sorted(others) if overlap(question, scan.sample(one).question) >= threshold)
        met[row] = next(alike, -1)
    return met


def _refuse_unreadable(scan: Scan, held: NDArray[np.bool_]) -> None:
    """A DataError for an evaluation set without any sound row: nothing would be compared with it."""
    sound = set(scan.file[held].tolist())
    for number, path in enumerate(scan.files):
        if number > 0 and number not in sound:
            raise DataError(
                f"the evaluation set {path} has no sound row, so that nothing can be compared with it. "
                f"See: mmrl data validate {path}"
            )


def _unusable(scan: Scan, named: NamedRows, held: NDArray[np.bool_]) -> tuple[str, ...]:
    """What of the evaluation sets could not be compared with."""
    broken = int(np.count_nonzero(held & named.broken))
    defective = int(np.count_nonzero((scan.file > 0) & ~scan.sound))
    notes = []
    if broken:
        notes.append(f"{broken} sample(s) of the evaluation sets have media that cannot be read: not compared with.")
    if defective:
        notes.append(f"{defective} row(s) of the evaluation sets are defective: not compared with.")
    return tuple(notes)
