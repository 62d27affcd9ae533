"""Leaving out samples that ask the same of the same media, within a manifest and across the splits of a data set.

Equal media, equal question: one sample stays if the answers agree, and none if they contradict each other, because
either may be wrong. Media that merely look alike may well have another right answer (one coin more), and a question in
nearly the same words may mean something else: such samples are repetitions only if their answers agree, with the same
options in any order and the same numbers in the question; otherwise all stay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.keys import Keys, Numbers, shown
from mmrl.curation.media_names import MediaMatch, named_rows
from mmrl.curation.near_text import near_rows
from mmrl.curation.report import Report
from mmrl.curation.scan import Scan, mixed
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.errors import ConfigError
from mmrl.progress import Progress, SilentProgress

REASONS = ("contradictory answers", "duplicate", "near duplicate media", "near duplicate text")
CONTRADICTORY, DUPLICATE, NEAR_MEDIA, NEAR_TEXT = range(4)
ACROSS = " across splits"


def dedup_manifests(
    paths: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    match: MediaMatch | None = None,
    near_text: float | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Writes the samples that stay. Of one manifest, `out` is the new one; of several, a folder for all of them.

    Of samples that repeat each other the first stays, and manifests count in the order they are given: name the test
    set first to keep it whole. near_text: overlap from which two questions are nearly the same, in (0, 1].
    """
    if near_text is not None and not 0 < near_text <= 1:
        raise ConfigError(f"--near-text is {near_text:g}; give a share above 0 and up to 1. 0.8 is cautious")
    bar, how = progress or SilentProgress(), match or MediaMatch()
    files = [Path(path) for path in paths]
    named = named_rows(files, Keys(asked=True, near_text=near_text is not None), how, bar)
    scan = named.scan
    output, reason, names = verdict_of(scan, [*(r + a for a in ("", ACROSS) for r in REASONS), *named.reasons])
    output[scan.sound] = scan.file[scan.sound]
    broken = scan.sound & named.broken
    output[broken] = -1
    reason[broken] = 2 + 2 * len(REASONS) + named.reason[broken]
    other = np.full(scan.rows, -1, dtype=np.int64)

    def leave(rows: NDArray[np.int64], met: NDArray[np.int64], why: int) -> None:
        across = scan.file[rows] != scan.file[met]
        output[rows], other[rows] = -1, met
        reason[rows] = 2 + why + len(REASONS) * across

    question, answer = scan.column("asked"), scan.column("answer")
    same, widest = shown(scan, named.same), shown(scan, named.widest)
    rows = np.flatnonzero(output >= 0)
    first, agree = _groups(mixed(same, question)[rows], answer[rows])
    again = rows != rows[first]
    leave(rows[again & agree], rows[first][again & agree], DUPLICATE)
    against = _contradicted(rows, first, agree)
    leave(against[0], against[1], CONTRADICTORY)
    if how.near is not None:
        rows = np.flatnonzero(output >= 0)
        first, _ = _groups(mixed(widest, question, answer)[rows], answer[rows])
        again = rows != rows[first]
        leave(rows[again], rows[first][again], NEAR_MEDIA)
    if near_text is not None:
        rows = np.flatnonzero(output >= 0)
        repeats = _near_text(scan, rows, mixed(widest, scan.column("bag")), near_text)
        leaving = np.array(sorted(repeats), dtype=np.int64)
        leave(leaving, np.array([repeats[row] for row in leaving.tolist()], dtype=np.int64), NEAR_TEXT)
    outputs = [out] if len(files) == 1 else _in_folder(files, out)
    verdict = Verdict(output=output, reason=reason, reasons=names, other=other, detail="meets {other}",
                      details=named.details)  # fmt: skip
    return transfer(
        scan,
        verdict,
        outputs,
        verb="dedup",
        listed=None if len(files) == 1 else out / "dropped.jsonl",
        dry_run=dry_run,
        workers=how.cores,
        progress=bar,
    )


def _groups(key: Numbers, answer: Numbers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(position of the first row with an equal key, whether all rows with that key have one answer), a row."""
    if len(key) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    least = np.full(len(first), np.iinfo(np.uint64).max, dtype=np.uint64)
    most = np.zeros(len(first), dtype=np.uint64)
    np.minimum.at(least, inverse, answer)
    np.maximum.at(most, inverse, answer)
    return first[inverse], (least == most)[inverse]


def _contradicted(
    rows: NDArray[np.int64], first: NDArray[np.int64], agree: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows that contradict others, another row of their group)."""
    places = np.flatnonzero(~agree)
    met = rows[first[places]]
    own = rows[places] == met  # the first of its group meets the next one
    last = dict(zip(first[places].tolist(), rows[places].tolist(), strict=True))
    met[own] = [last[place] for place in first[places][own].tolist()]
    return rows[places], met


def _near_text(scan: Scan, rows: NDArray[np.int64], bucket: Numbers, threshold: float) -> dict[int, int]:
    crowded = np.unique(bucket[rows], return_inverse=True, return_counts=True)
    rows = rows[crowded[2][crowded[1]] > 1]  # alone in its bucket: nothing to compare with
    if len(rows) == 0:
        return {}

    def text(row: int) -> str:
        return scan.sample(row).question

    return near_rows(scan.column("signature"), bucket, rows, text, threshold=threshold)


def _in_folder(files: Sequence[Path], out: Path) -> list[Path]:
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "dropped.jsonl" in names:
        raise ConfigError(
            f"the manifests go to {out} under their own names, and {', '.join(twice) or 'dropped.jsonl'} is taken; "
            f"rename the files"
        )
    return [out / name for name in names]
