"""Reading another project's data set as samples; every row that cannot be one is left out with a reason.

foreign_rows    rows of any reader → (where, manifest row or Unfit), one after the other
convert_rows    one file or folder → samples whose media lie beside it, one after the other
convert_file    the same, all at once
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


def convert_rows(
    path: str | os.PathLike[str],
    format_name: str,
    *,
    media_root: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, Sample | Unfit]]:
    """(number of the row, its sample or why it is none), in the order of the file. Of all rows only ids are remembered.

    Media paths are taken relative to `media_root`; no media file is opened. Rows that hold their pictures themselves
    are left out: a recipe writes those. Ids that the file uses repeatedly get `-2`, `-3` …
    """
    if format_name not in FORMATS:
        raise DataError(unknown_name("format", format_name, FORMATS))
    root = Path(os.path.abspath(media_root))
    if not root.is_dir():
        raise DataError(
            f"the media folder {media_root} does not exist; give the folder that the rows' paths start from"
        )
    ids = _Ids()
    for number, made in foreign_rows(read_rows(Path(path)), format_name, columns=columns, constants=constants):
        try:
            if isinstance(made, Unfit):
                raise made
            if any("content" in item for item in made.get("media", ())):
                raise Unfit(
                    "embedded file", "the row holds its media itself; build it with a recipe (builder: converted)"
                )
            yield number, examined({**made, "id": ids.own(str(made["id"]))}, root=root)
        except Unfit as why:
            yield number, why


def convert_file(
    path: str | os.PathLike[str],
    format_name: str,
    *,
    media_root: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> tuple[list[Sample], list[Dropped]]:
    """All at once: (samples, rows left out, named `file:row`). A file of which no row fits raises a DataError."""
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    for number, made in convert_rows(path, format_name, media_root=media_root, columns=columns, constants=constants):
        if isinstance(made, Sample):
            samples.append(made)
        else:
            where = f"{Path(path).name}:{number}"
            dropped.append(Dropped(sample_id=where, stage="filter", reason=made.reason, detail=str(made)))
    if not samples:
        reasons = ", ".join(
            f"{reason} ({count})" for reason, count in Counter(d.reason for d in dropped).most_common(5)
        )
        raise DataError(f"no row of {path} fits the format {format_name!r}: {reasons or 'the file is empty'}")
    return samples, dropped


class _Ids:
    """The ids that were given, and a new one for each that is wanted again."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._repeats: dict[str, int] = {}  # id that was wanted again → number of its last copy

    def own(self, wanted: str) -> str:
        """`wanted`, or the first of `wanted-2`, `wanted-3` … that no row has."""
        name = wanted
        while name in self._taken:
            self._repeats[wanted] = self._repeats.get(wanted, 1) + 1
            name = f"{wanted}-{self._repeats[wanted]}"
        self._taken.add(name)
        return name
