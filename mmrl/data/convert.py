"""Reading another project's data set as samples; every row that cannot be one is left out with a reason.

foreign_rows    rows of any reader → (where, manifest row or Unfit), one after the other
convert_file    one file or folder → samples whose media lie beside it: `mmrl data convert`
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmrl.data.formats.catalog import FORMATS
from mmrl.data.formats.row import ManifestRow, Unfit
from mmrl.data.readers.files import read_rows
from mmrl.data.samples import examine_row
from mmrl.errors import DataError, unknown_name
from mmrl.types import Dropped, Sample


def foreign_rows(
    rows: Iterable[tuple[int, Any]],
    format_name: str,
    *,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, ManifestRow | Unfit]]:
    """(number of the row, and of the question in it where it holds several; what the format makes of it).

    columns: our name of a field → the table's. constants: fields that every row has, unless it says otherwise.
    """
    if format_name not in FORMATS:
        raise DataError(unknown_name("format", format_name, FORMATS))
    convert = FORMATS[format_name]
    for number, row in rows:
        try:
            if isinstance(row, DataError):
                raise Unfit("unreadable line", str(row))
            if not isinstance(row, Mapping):
                raise Unfit("not an object", "the row is no object {…}")
            renamed = {ours: row[theirs] for ours, theirs in (columns or {}).items() if theirs in row}
            made = convert({**(constants or {}), **row, **renamed})
        except Unfit as why:
            yield str(number), why
            continue
        if not isinstance(made, list):
            yield str(number), made
            continue
        for part, item in enumerate(made, start=1):
            yield f"{number}.{part}", item


def examined(made: ManifestRow, *, root: Path) -> Sample:
    """The sample of a format's row; Unfit where it is none. Files that the row holds get a name for their content."""
    media = []
    for item in made.get("media", ()):
        if "content" in item:
            digest = hashlib.sha256(item["content"]).hexdigest()
            item = {"type": item["type"], "path": str(root / f"{digest}{item['suffix']}")}
        media.append(item)
    sample, defects = examine_row({**made, "media": media}, root=root)
    if sample is None:
        raise Unfit("defective sample", "; ".join(defects))
    try:
        json.dumps(sample.metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Unfit("defective sample", f"what is kept as metadata is no JSON: {error}") from None
    return sample


def convert_file(
    path: str | os.PathLike[str],
    format_name: str,
    *,
    media_root: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> tuple[list[Sample], list[Dropped]]:
    """(samples in the order of the file, rows left out, named `file:row`).

    Media paths are taken relative to `media_root`; no media file is opened. Rows that hold their pictures themselves
    are left out: a recipe writes those. Ids that the file uses repeatedly get `-2`, `-3` … A file of which no row fits
    raises a DataError.
    """
    if format_name not in FORMATS:
        raise DataError(unknown_name("format", format_name, FORMATS))
    root = Path(os.path.abspath(media_root))
    if not root.is_dir():
        raise DataError(
            f"the media folder {media_root} does not exist; give the folder that the rows' paths start from"
        )
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    used: Counter[str] = Counter()
    taken: set[str] = set()
    for number, made in foreign_rows(read_rows(Path(path)), format_name, columns=columns, constants=constants):
        try:
            if isinstance(made, Unfit):
                raise made
            if any("content" in item for item in made.get("media", ())):
                raise Unfit(
                    "embedded file", "the row holds its media itself; build it with a recipe (builder: converted)"
                )
            sample = examined({**made, "id": _own_id(str(made["id"]), used, taken)}, root=root)
            samples.append(sample)
        except Unfit as why:
            where = f"{Path(path).name}:{number}"
            dropped.append(Dropped(sample_id=where, stage="filter", reason=why.reason, detail=str(why)))
    if not samples:
        reasons = ", ".join(
            f"{reason} ({count})" for reason, count in Counter(d.reason for d in dropped).most_common(5)
        )
        raise DataError(f"no row of {path} fits the format {format_name!r}: {reasons or 'the file is empty'}")
    return samples, dropped


def _own_id(wanted: str, used: Counter[str], taken: set[str]) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3` … that no row has."""
    used[wanted] += 1
    name = wanted if used[wanted] == 1 else f"{wanted}-{used[wanted]}"
    while name in taken:
        used[wanted] += 1
        name = f"{wanted}-{used[wanted]}"
    taken.add(name)
    return name
