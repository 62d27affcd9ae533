"""The second pass over a manifest: rows that stay are copied to their outputs, the others are listed with reasons.

A row is copied as it stands, byte for byte, where the new manifest lies in the same folder and nothing about the row
changes; otherwise media paths are written anew (relative below the new manifest's folder, else absolute).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.output import dropped_file, json_line, opened, ranked
from mmrl.curation.report import Report
from mmrl.curation.scan import REPEATED_ID, Scan, root_of
from mmrl.curation.shards import Row, Shard, raw_lines, read_row
from mmrl.curation.workers import run_ordered
from mmrl.progress import Progress


class Edit(Protocol):
    """A change of each row that stays; must pickle."""

    def __call__(self, fields: dict[str, Any], output: int, value: Any) -> dict[str, Any]:
        """The row's new fields. output: number of the file it goes to; value: the verb's, of this row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verb decided, an entry a row of the scan."""

    output: NDArray[np.int16]  # number of the output; −1: left out
    reason: NDArray[np.int16]  # position in `reasons`, of rows that are left out
    reasons: tuple[str, ...]
    detail: str = ""  # of rows left out that meet another; {other} stands for its id and line
    other: NDArray[np.int64] | None = None  # the row they meet; −1: none
    details: Mapping[int, str] | None = None  # row → its own detail
    files: int | None = None  # only rows of the first so many files are passed on or reported; None: of all


def verdict_of(scan: Scan, reasons: Sequence[str]) -> tuple[NDArray[np.int16], NDArray[np.int16], tuple[str, ...]]:
    """(outputs, reasons, names) before a verb decides: sound rows go to output 0, others are left out."""
    names = ("defective row", "repeated id", *reasons)
    output = np.where(scan.sound, 0, -1).astype(np.int16)
    reason = np.where(scan.state == REPEATED_ID, 1, 0).astype(np.int16)
    return output, reason, names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One shard and what becomes of its rows."""

    shard: Shard
    output: NDArray[np.int16]
    reason: NDArray[np.int16]
    meets: tuple[str, ...]  # detail of each row that is left out, in order
    values: Sequence[Any]  # of the rows, or empty


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfer:
    roots: tuple[str, ...]  # folder of each output
    reasons: tuple[str, ...]
    edit: Edit | None

    def __call__(self, part: _Part) -> tuple[dict[int, bytes], bytes]:
        root = root_of(part.shard.path)
        kept: dict[int, list[bytes]] = {}
        dropped: list[bytes] = []
        place = left = 0
        start = part.shard.start
        for line, raw in enumerate(raw_lines(part.shard), start=1):
            if not raw.strip(b" \t\r\xef\xbb\xbf") and not raw.decode("utf-8", "replace").lstrip("\ufeff").strip():
                start += len(raw) + 1
                continue
            output = int(part.output[place])
            if output < 0:
                row = read_row(raw, line=line, start=start, root=root)
                assert row is not None
                reason = self.reasons[part.reason[place]]
                dropped.append(_listed(part, row, reason, part.meets[left]))
                left += 1
            else:
                value = part.values[place] if len(part.values) else None
                kept.setdefault(output, []).append(self._copied(raw, root, output, value))
            start += len(raw) + 1
            place += 1
        return {output: b"".join(lines) for output, lines in kept.items()}, b"".join(dropped)

    def _copied(self, raw: bytes, root: Path, output: int, value: Any) -> bytes:
        moved = self.roots[output] != str(root)
        if not moved and self.edit is None:
            return raw.lstrip(b"\xef\xbb\xbf").rstrip(b"\r") + b"\n"
        fields = json.loads(raw.decode("utf-8").lstrip("\ufeff"))
        if self.edit is not None:
            fields = self.edit(fields, output, value)
        if moved:
            fields = rebased(fields, root, self.roots[output])
        return json_line(fields)


def transfer(
    scan: Scan,
    verdict: Verdict,
    outputs: Sequence[Path],
    *,
    verb: str,
    edit: Edit | None = None,
    values: Sequence[Any] = (),
    listed: Path | None = None,
    dry_run: bool,
    workers: int,
    progress: Progress,
    notes: tuple[str, ...] = (),
    figures: Mapping[str, Any] | None = None,
) -> Report:
    """Writes the outputs and the list of what is left out, and reports. Nothing is written with `dry_run`."""
    log = dropped_file(outputs[0]) if listed is None else listed
    work = _Transfer(roots=tuple(str(root_of(out)) for out in outputs), reasons=verdict.reasons, edit=edit)
    ours = scan.file < (len(scan.files) if verdict.files is None else verdict.files)
    counts = Counter(verdict.reasons[code] for code in verdict.reason[(verdict.output < 0) & ours].tolist())
    written = {out: int(np.count_nonzero((verdict.output == number) & ours)) for number, out in enumerate(outputs)}
    some = any(written.values())
    with opened([*outputs, log], dry_run=dry_run) as files:
        if not dry_run:
            parts = _parts(scan, verdict, values)
            with progress.task("rows written, shards", len(scan.shards)) as task:
                for kept, dropped in run_ordered(work, parts, workers=min(workers, len(scan.shards))):
                    for number, content in kept.items():
                        files.write(outputs[number], content)
                    files.write(log, dropped)
                    task.advance()
    report = Report(
        verb=verb,
        rows=int(np.count_nonzero(ours)),
        written=written,
        dropped=ranked(counts),
        listed=log if counts else None,
        dry_run=dry_run,
        notes=notes,
        figures=figures or {},
    )
    if not some:
        report.raise_if_nothing_is_left()
    return report


def _parts(scan: Scan, verdict: Verdict, values: Sequence[Any]) -> Iterator[_Part]:
    place = 0
    for shard, count in zip(scan.shards, scan.rows_per_shard, strict=True):
        rows = range(place, place + count)
        output = verdict.output[place : place + count]
        if count and verdict.files is not None and scan.file[place] >= verdict.files:
            return
        leaving = np.flatnonzero(output < 0) + place
        yield _Part(
            shard=shard,
            output=output,
            reason=verdict.reason[place : place + count],
            meets=tuple(_detail(scan, verdict, int(row)) for row in leaving),
            values=values[rows.start : rows.stop] if len(values) else (),
        )
        place += count


def _detail(scan: Scan, verdict: Verdict, row: int) -> str:
    # The line in the file travels in front, because a shard does not know how many lines stand before it.
    where = f"{int(scan.line[row])}\0"
    if verdict.details is not None and row in verdict.details:
        return where + verdict.details[row]
    if verdict.other is None or verdict.other[row] < 0:
        return where
    return where + verdict.detail.format(other=scan.name(int(verdict.other[row])))


def _listed(part: _Part, row: Row, reason: str, meets: str) -> bytes:
    line, _, detail = meets.partition("\0")
    if row.defects:
        detail = "; ".join(row.defects)
    elif reason == "repeated id":
        detail = "its id stands in an earlier line; rollout seeds and reports go by id: make it unique"
    return json_line(
        {"file": part.shard.path, "line": int(line), "id": row.id or "", "reason": reason, "detail": detail}
    )


def rebased(fields: dict[str, Any], root: Path, new_root: str) -> dict[str, Any]:
    """The row with media paths for a manifest in another folder: relative below it, else absolute."""
    media = fields.get("media")
    if not media:
        return fields

    def stored(path: str) -> str:
        plain = path[:1] not in ("/", ".") and "//" not in path and "/." not in path
        whole = f"{root}/{path}" if plain else os.path.normpath(os.path.join(root, path))
        return whole[len(new_root) :].lstrip("/") if whole.startswith(new_root.rstrip("/") + "/") else whole

    items = []
    for item in media:
        changed = dict(item)
        if changed.get("path") is not None:
            changed["path"] = stored(changed["path"])
        if changed.get("paths") is not None:
            changed["paths"] = [stored(path) for path in changed["paths"]]
        items.append(changed)
    return {**fields, "media": items}
