"""One manifest from several, by weight or by exact counts, drawn and ordered by a seed.

Which rows of a source are drawn depends on the seed and on their ids alone. With a larger count the same rows are drawn
and more. The order of the result is shuffled, so that its first n rows are a fair sample of the mixture.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.output import dropped_file, json_line, opened, ranked
from mmrl.curation.report import Report
from mmrl.curation.scan import REPEATED_ID, Nothing, Scan, mixed, repeated, root_of, scan
from mmrl.curation.transfer import rebased
from mmrl.curation.workers import available_cores, run_ordered
from mmrl.errors import ConfigError, DataError
from mmrl.progress import Progress, SilentProgress

_PIECE = 10_000  # rows that a worker writes at a time


def mix_manifests(
    paths: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    weights: Sequence[float] = (),
    counts: Sequence[int] = (),
    total: int | None = None,
    tag: str = "",
    seed: int = 0,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes a mixture of the manifests.

    Either `counts` says how many rows of each, or `weights` (default: equal) divide `total` by largest remainders;
    without `total`, the mixture is as large as the weights allow with no row twice. tag: a metadata key that gets the
    name of the source. An id that several sources use gets its source's name in front.
    """
    cores, bar = workers or available_cores(), progress or SilentProgress()
    found = scan(paths, Nothing(), workers=cores, progress=bar)
    there = np.bincount(found.file[found.sound], minlength=len(found.files)).tolist()
    wanted = _counts(found, there, weights, counts, total)
    chosen = np.concatenate([_drawn(found, number, count, seed) for number, count in enumerate(wanted)])
    chosen = chosen[np.argsort(mixed(found.ids[chosen], found.file[chosen].astype(np.uint64), seed, 1), kind="stable")]
    clashing = np.zeros(found.rows, dtype=bool)
    clashing[chosen[repeated(found.ids[chosen])]] = True
    names = _source_names(found.files)
    work = _Write(files=tuple(map(str, found.files)), names=names, tag=tag, root=str(root_of(out)))
    with opened([out, dropped_file(out)], dry_run=dry_run) as outputs:
        if not dry_run:
            pieces = _pieces(found, chosen, clashing)
            for content in run_ordered(work, pieces, workers=min(cores, 1 + len(chosen) // _PIECE)):
                outputs.write(out, content)
            for row in np.flatnonzero(~found.sound).tolist():
                outputs.write(dropped_file(out), _listed(found, row))
    defective = int(np.count_nonzero(~found.sound & (found.state != REPEATED_ID)))
    twice = int(np.count_nonzero(found.state == REPEATED_ID))
    notes = [f"{names[i]}: {count} of {there[i]} rows" for i, count in enumerate(wanted)]
    if clashing.any():
        notes.append(
            f"{int(clashing.sum())} rows have ids that several sources use; the source's name stands in front."
        )
    report = Report(
        verb="mix",
        rows=found.rows,
        written={out: len(chosen)},
        dropped=ranked(
            {"defective row": defective, "repeated id": twice, "not drawn": int(found.sound.sum()) - len(chosen)}
        ),
        listed=dropped_file(out) if defective + twice else None,
        dry_run=dry_run,
        notes=tuple(notes),
        figures={"counts": dict(zip(names, wanted, strict=True))},
    )
    report.raise_if_nothing_is_left()
    return report


def _counts(
    found: Scan, there: Sequence[int], weights: Sequence[float], counts: Sequence[int], total: int | None
) -> list[int]:
    """Rows to draw of each source."""
    files = len(found.files)
    if counts and (weights or total is not None):
        raise ConfigError("mix: exact counts leave nothing to weights and --total; give one or the other")
    if counts:
        _same_length("counts", counts, files)
        wanted = list(counts)
    else:
        shares = list(weights) or [1.0] * files
        _same_length("weights", shares, files)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ConfigError(f"mix: the weights {shares} must not be negative, and one must be above 0")
        whole = sum(shares)
        if total is None:
            total = int(min(n * whole / share for n, share in zip(there, shares, strict=True) if share > 0) + 1e-9)
        exact = [total * share / whole for share in shares]
        wanted = [int(value) for value in exact]
        rest = sorted(range(files), key=lambda i: (wanted[i] - exact[i], i))
        for i in rest[: total - sum(wanted)]:
            wanted[i] += 1
    for path, n, count in zip(found.files, there, wanted, strict=True):
        if count > n:
            raise DataError(f"mix: {path} has {n} usable rows, and {count} were asked for. No row is drawn twice: "
                            f"lower its count or weight, or the total")  # fmt: skip
    return wanted


def _same_length(what: str, given: Sequence[float], files: int) -> None:
    if len(given) != files:
        raise ConfigError(f"mix: there are {files} manifests and {len(given)} {what}; give one of each")


def _drawn(found: Scan, number: int, count: int, seed: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(found.sound & (found.file == number))
    order = np.argsort(mixed(found.ids[rows], seed), kind="stable")
    return rows[order[:count]]


def _source_names(files: Sequence[Path]) -> tuple[str, ...]:
    """The shortest ends of the paths that tell the files apart: `a/train` and `b/train`."""
    for parts in range(1, 1 + max(len(file.resolve().parts) for file in files)):
        names = ["/".join(file.resolve().with_suffix("").parts[-parts:]) for file in files]
        if len(set(names)) == len(names):
            return tuple(names)
    raise ConfigError("mix: one manifest is named twice; no row is drawn twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows to write, in order."""

    file: NDArray[np.int16]
    start: NDArray[np.int64]
    clashing: NDArray[np.bool_]


def _pieces(found: Scan, chosen: NDArray[np.int64], clashing: NDArray[np.bool_]) -> Iterator[_Piece]:
    for first in range(0, len(chosen), _PIECE):
        rows = chosen[first : first + _PIECE]
        yield _Piece(file=found.file[rows], start=found.start[rows], clashing=clashing[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    files: tuple[str, ...]
    names: tuple[str, ...]
    tag: str
    root: str  # folder of the output

    def __call__(self, piece: _Piece) -> bytes:
        lines: dict[int, bytes] = {}
        roots = [root_of(path) for path in self.files]
        for number in np.unique(piece.file).tolist():
            with (
                open(self.files[number], "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                for place in np.flatnonzero(piece.file == number).tolist():
                    start = int(piece.start[place])
                    stop = content.find(b"\n", start)
                    raw = content[start : stop if stop >= 0 else len(content)]
                    lines[place] = self._line(raw, number, roots[number], bool(piece.clashing[place]))
        return b"".join(lines[place] for place in range(len(piece.file)))

    def _line(self, raw: bytes, number: int, root: Path, clashing: bool) -> bytes:
        moved = self.root != str(root)
        if not (moved or clashing or self.tag):
            return raw.lstrip(b"\xef\xbb\xbf").rstrip(b"\r") + b"\n"
        fields: dict[str, Any] = json.loads(raw.decode("utf-8").lstrip("\ufeff"))
        if clashing:
            fields["id"] = f"{self.names[number]}/{fields['id']}"
        if self.tag:
            fields["metadata"] = {**(fields.get("metadata") or {}), self.tag: self.names[number]}
        return json_line(rebased(fields, root, self.root) if moved else fields)


def _listed(found: Scan, row: int) -> bytes:
    read = found.row(row)
    twice = found.state[row] == REPEATED_ID
    detail = "its id stands in an earlier line" if twice else "; ".join(read.defects)
    return json_line(
        {
            "file": str(found.files[found.file[row]]),
            "line": int(found.line[row]),
            "id": read.id or "",
            "reason": "repeated id" if twice else "defective row",
            "detail": detail,
        }
    )
