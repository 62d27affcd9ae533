"""Everything that is wrong with a manifest, row by row: its schema, its media, and answers that do not fit them.

Four kinds of findings:
    defect    a run would refuse the manifest
    media     a file is missing (a run would stop there) or cannot be decoded (a run would drop the sample)
    answer    the answer does not fit the media: the sample would teach something wrong
    suspect   unlike the other rows of its task; a hint, which makes no row unusable
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.consistency import answer_defects
from mmrl.curation.media_facts import MediaFacts
from mmrl.curation.media_index import Examination, media_index, read_facts, wanted_of
from mmrl.curation.output import ranked
from mmrl.curation.report import Report
from mmrl.curation.scan import REPEATED_ID, SOUND, Extracted, Scan, number_of, scan
from mmrl.curation.shards import Shard, read_rows
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.curation.workers import available_cores, run_ordered
from mmrl.errors import DataError
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Sample

Kind = Literal["defect", "media", "answer", "suspect"]
KINDS: tuple[Kind, ...] = ("defect", "media", "answer", "suspect")
RARE = 0.05  # share of a task's rows below which an answer type is suspect …
ENOUGH = 20  # … in a task of at least so many rows
REPEATED = "the id stands in an earlier line too. Rollout seeds and reports go by id; make it unique"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong with one row."""

    file: str
    line: int
    id: str | None
    kind: Kind
    reason: str  # slug to count by
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: " + (f"sample {self.id!r}: " if self.id else "") + self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What a manifest holds."""

    path: Path
    rows: int  # that are not blank
    usable: int  # without defect, with usable media and a fitting answer
    found: Mapping[Kind, Mapping[str, int]]  # kind → reason → how many findings
    media_files: int  # looked into
    report: Report | None  # of the manifest that was written

    @property
    def defective(self) -> int:
        """Findings for which a run would refuse the manifest."""
        return sum(self.found["defect"].values())


def validate_rows(
    path: str | os.PathLike[str],
    *,
    examination: Examination | None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
    out: Path | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Looks at every row and, unless `examination` is None, into every media file.

    `on_finding` gets the findings in the order defects, suspects, media and answers, each by line. With `out`, the
    usable rows are written there and the others listed beside it.
    """
    bar, cores = progress or SilentProgress(), workers or available_cores()
    counts: dict[Kind, Counter[str]] = {kind: Counter() for kind in KINDS}
    names: dict[int, str] = {}
    unusable: dict[int, tuple[str, str]] = {}  # row → (reason, detail)

    def tell(row: int, kind: Kind, reason: str, message: str, id_: str | None) -> None:
        counts[kind][reason] += 1
        place = found.files[found.file[row]]
        if kind in ("media", "answer"):
            unusable.setdefault(row, (reason, message))
        on_finding(
            Finding(file=str(place), line=int(found.line[row]), id=id_, kind=kind, reason=reason, message=message)
        )

    def note(extra: Any) -> None:
        names.update(extra[0])
        if index is not None:
            index.add(extra[1])

    files = 0
    if examination is None:
        index = None
        found = scan([path], _Look(media=False), workers=cores, progress=bar, on_extra=note)
        _schema(found, names, tell)
    else:
        with media_index(examination) as index:
            found = scan([path], _Look(media=True), workers=cores, progress=bar, on_extra=note)
            _schema(found, names, tell)
            index.complete(bar)
            files = index.count()
            _media(found, index.path, cores, tell, bar)
    report = None
    if out is not None:
        report = _write(found, unusable, out, dry_run=dry_run, cores=cores, bar=bar)
    if found.rows == 0:
        raise DataError(f"{path} holds no sample; write one JSON object per line")
    return Validation(
        path=Path(path),
        rows=found.rows,
        usable=int(found.sound.sum()) - len(unusable),
        found={kind: ranked(counts[kind]) for kind in KINDS},
        media_files=files,
        report=report,
    )


Tell = Callable[[int, Kind, str, str, str | None], None]


def _schema(found: Scan, names: Mapping[int, str], tell: Tell) -> None:
    for row in np.flatnonzero(found.state != SOUND).tolist():
        read = found.row(row)
        if found.state[row] == REPEATED_ID:
            tell(row, "defect", "repeated id", REPEATED, read.id)
        for defect in read.defects:
            tell(row, "defect", "defective row", defect, read.id)
    for row, message in _suspects(found, names):
        tell(row, "suspect", "answer type unlike its task", message, found.row(row).id)


def _suspects(found: Scan, names: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """Rows whose answer type is rare in their task: rewards are chosen by task, and one may not fit both types."""
    sound = np.flatnonzero(found.sound)
    if len(sound) == 0:
        return
    task, type_ = found.column("task")[sound], found.column("type")[sound]
    for number in np.unique(task).tolist():
        rows = sound[task == number]
        types, counts = np.unique(type_[task == number], return_counts=True)
        if len(rows) < ENOUGH or len(types) == 1:
            continue
        usual = names[int(types[counts.argmax()])]
        for rare in types[counts < RARE * len(rows)].tolist():
            for row in rows[found.column("type")[rows] == rare].tolist():
                yield (
                    row,
                    (
                        f"the answer is of type {names[rare]!r}, while task {names[number]!r} has mostly {usual!r}: "
                        f"one reward set serves a whole task; give it a task of its own, or correct the type"
                    ),
                )


def _media(found: Scan, index: Path, cores: int, tell: Tell, bar: Progress) -> None:
    first = 0
    with bar.task("checking answers, shards", len(found.shards)) as task:
        checked = run_ordered(_CheckShard(index=str(index)), found.shards, workers=min(cores, len(found.shards)))
        for count, findings in zip(found.rows_per_shard, checked, strict=True):
            for place, kind, reason, message, id_ in findings:
                if found.state[first + place] == SOUND:
                    tell(first + place, kind, reason, message, id_)
            first += count
            task.advance()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """Tasks and answer types as numbers; names and media files as `extra`."""

    media: bool

    def __call__(self, samples: Sequence[Sample]) -> Extracted:
        tasks = {sample.task: number_of(sample.task) for sample in samples}
        types = {sample.answer.type: number_of(sample.answer.type) for sample in samples}
        names = {number: name for table in (tasks, types) for name, number in table.items()}
        wanted = {file for sample in samples for file in wanted_of(sample.media)} if self.media else set()
        columns: dict[str, NDArray[Any]] = {
            "task": np.array([tasks[sample.task] for sample in samples], dtype=np.uint64),
            "type": np.array([types[sample.answer.type] for sample in samples], dtype=np.uint64),
        }
        return Extracted(columns=columns, extra=(names, sorted(wanted)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckShard:
    """What is wrong with the media and the answers of a shard's rows."""

    index: str

    def __call__(self, shard: Shard) -> list[tuple[int, Kind, str, str, str | None]]:
        found: list[tuple[int, Kind, str, str, str | None]] = []
        with closing(sqlite3.connect(f"file:{self.index}?mode=ro", uri=True)) as database:
            for place, row in enumerate(read_rows(shard)):
                if row.sample is None or not row.sample.media:
                    continue
                facts = facts_of(database, row.sample)
                broken = {path: fact for path, fact in facts.items() if fact.reason}
                found += [(place, "media", fact.reason, fact.message, row.id) for fact in broken.values()]
                found += [(place, "answer", slug, text, row.id) for slug, text in answer_defects(row.sample, facts)]
        return found


def facts_of(database: sqlite3.Connection, sample: Sample) -> dict[str, MediaFacts]:
    """What the index knows of the files of a sample; of one that is shown in two ways, what is wrong with either."""
    facts: dict[str, MediaFacts] = {}
    for path, kind in wanted_of(sample.media):
        fact = read_facts(database, path, kind)
        facts[path] = fact if path not in facts or fact.reason else facts[path]
    return facts


def _write(
    found: Scan, unusable: Mapping[int, tuple[str, str]], out: Path, *, dry_run: bool, cores: int, bar: Progress
) -> Report:
    slugs = sorted({reason for reason, _ in unusable.values()})
    output, reason, names = verdict_of(found, slugs)
    for row, (slug, _) in unusable.items():
        output[row], reason[row] = -1, 2 + slugs.index(slug)
    details = {row: message for row, (_, message) in unusable.items()}
    verdict = Verdict(output=output, reason=reason, reasons=names, details=details)
    return transfer(found, verdict, [out], verb="validate", dry_run=dry_run, workers=cores, progress=bar)
