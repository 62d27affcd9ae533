"""The sample manifest: JSON lines, one verifiable sample a line. Reading, writing, and saying all that is wrong.

read_manifest       all samples, or one DataError that lists the first defects
validate_manifest   every defect of every line (media files, and manifests of any size: mmrl.curation.validate)
write_manifest      what read_manifest reads back; atomic
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmrl.atomic import write_atomically
from mmrl.data.answers import parse_answer
from mmrl.data.jsonl import read_json_lines
from mmrl.data.problem import Problem
from mmrl.data.samples import examine_row, parse_sample, sample_row
from mmrl.errors import DataError
from mmrl.types import Sample

__all__ = [
    "ManifestReport",
    "Problem",
    "parse_answer",
    "parse_sample",
    "read_manifest",
    "validate_manifest",
    "write_manifest",
]

_LISTED = 10  # problems that one error message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestReport:
    """What a manifest holds and what is wrong with it."""

    path: Path
    rows: int  # lines that are not blank
    samples: tuple[Sample, ...]  # of the sound rows, in order
    problems: tuple[Problem, ...]  # a run would refuse the manifest

    @property
    def sound(self) -> bool:
        return not self.problems

    def raise_for_problems(self) -> None:
        """One DataError that lists the first problems; nothing where there are none."""
        if self.problems:
            raise DataError(_listing(self.path, self.problems))


def read_manifest(path: str | os.PathLike[str], *, addresses: bool = False) -> list[Sample]:
    """All samples of a manifest, media paths absolute. Opens no media file: a missing one is found when it is decoded.

    A manifest with any defect raises one DataError that lists the first ten. `addresses`: media may be addresses on the
    web, to be fetched before the samples are used (`fetched.py`).
    """
    report = validate_manifest(path, addresses=addresses)
    report.raise_for_problems()
    return list(report.samples)


def write_manifest(path: str | os.PathLike[str], samples: Iterable[Sample]) -> None:
    """Writes a manifest that `read_manifest` reads back; media below its folder get relative paths.

    Refuses, with a DataError and before anything is written, samples that could not be read back.
    """
    target = Path(os.path.abspath(path))
    lines: list[str] = []
    problems: list[Problem] = []
    lines_of: dict[str, int] = {}
    for number, sample in enumerate(samples, start=1):
        where = f"{path}:{number}"
        try:
            row = sample_row(sample, root=target.parent)
            text = json.dumps(row, ensure_ascii=False, allow_nan=False)
            text.encode("utf-8")
        except (TypeError, ValueError) as error:  # DataError is a ValueError
            problems.append(Problem(where=where, sample_id=sample.id, message=f"cannot be written: {error}"))
            continue
        _, defects = examine_row(json.loads(text), root=target.parent)
        defects += _seen_before(sample.id, number, lines_of)
        problems += [Problem(where=where, sample_id=sample.id, message=defect) for defect in defects]
        lines.append(text + "\n")
    if problems:
        raise DataError(_listing(target, problems))
    write_atomically(target, "".join(lines).encode("utf-8"))


def validate_manifest(path: str | os.PathLike[str], *, addresses: bool = False) -> ManifestReport:
    """Every defect of a manifest, and its sound samples. Opens no media file. `addresses`: as `read_manifest`."""
    target = Path(path)
    root = Path(os.path.abspath(path)).parent
    problems: list[Problem] = []
    found: list[tuple[str, Sample]] = []
    lines_of: dict[str, int] = {}
    rows = 0
    for number, row in read_json_lines(target):
        rows += 1
        where = f"{path}:{number}"
        if isinstance(row, DataError):
            problems.append(Problem(where=where, sample_id=None, message=str(row)))
            continue
        sample, defects = examine_row(row, root=root, addresses=addresses)
        id_ = row.get("id") if isinstance(row, dict) else None
        id_ = id_ if isinstance(id_, str) else None
        if id_:
            defects += _seen_before(id_, number, lines_of)
        problems += [Problem(where=where, sample_id=id_, message=defect) for defect in defects]
        if sample is not None and not defects:
            found.append((where, sample))
    if rows == 0:
        problems.append(
            Problem(where=str(path), sample_id=None, message="holds no sample; write one JSON object per line")
        )
    return ManifestReport(
        path=target,
        rows=rows,
        samples=tuple(sample for _, sample in found),
        problems=tuple(problems),
    )


def _seen_before(id_: str, number: int, lines_of: dict[str, int]) -> list[str]:
    first = lines_of.setdefault(id_, number)
    if first == number:
        return []
    return [f"the id is already used in line {first}. Rollout seeds and reports go by id; make it unique"]


def _listing(path: Path, problems: Iterable[Problem]) -> str:
    listed = list(problems)
    if len(listed) == 1:
        return str(listed[0])
    lines = "".join(f"\n  {problem}" for problem in listed[:_LISTED])
    more = f"\n  … and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"{path} has {len(listed)} problems:{lines}{more}\nAll of them: mmrl data validate {path}"
