"""Reading another project's data set as samples; every row that cannot be one is left out with a reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrl.data.formats.catalog import FORMATS
from mmrl.data.formats.row import Unfit
from mmrl.data.jsonl import parse_json, read_json_lines
from mmrl.data.samples import examine_row
from mmrl.errors import DataError, unknown_name
from mmrl.types import Dropped, Sample


def convert_file(
    path: str | os.PathLike[str], format_name: str, *, media_root: str | os.PathLike[str]
) -> tuple[list[Sample], list[Dropped]]:
    """(samples in the order of the file, rows left out, named `file:row`).

    Media paths are taken relative to `media_root`; no media file is opened. Ids that the file uses repeatedly get
    `-2`, `-3` … A file of which no row fits raises a DataError.
    """
    if format_name not in FORMATS:
        raise DataError(unknown_name("format", format_name, FORMATS))
    convert = FORMATS[format_name]
    root = Path(os.path.abspath(media_root))
    if not root.is_dir():
        raise DataError(
            f"the media folder {media_root} does not exist; give the folder that the rows' paths start from"
        )
    samples: list[Sample] = []
    dropped: list[Dropped] = []
    used: Counter[str] = Counter()
    for number, row in _rows(Path(path)):
        try:
            if isinstance(row, DataError):
                raise Unfit("unreadable line", str(row))
            if not isinstance(row, dict):
                raise Unfit("not an object", "the row is no object {…}")
            made = convert(row)
            used[made["id"]] += 1
            if used[made["id"]] > 1:
                made["id"] = f"{made['id']}-{used[made['id']]}"
            sample, defects = examine_row(made, root=root)
            if sample is None:
                raise Unfit("defective sample", "; ".join(defects))
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


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(number from 1, row) of a JSON list, or of JSON lines (numbered as lines)."""
    try:
        with open(path, "rb") as file:
            start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    except OSError:
        start = b""  # read_json_lines says what is wrong
    if start != b"[":
        yield from read_json_lines(path)
        return
    try:
        rows = parse_json(path.read_text(encoding="utf-8-sig"))
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a JSON list: {error}") from None
    yield from enumerate(rows, start=1)
