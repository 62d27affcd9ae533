"""Folders of pictures or clips, as `datasets` reads them: with a metadata file, or with a folder per class.

metadata.jsonl, metadata.csv or metadata.parquet: one row per file, `file_name` relative to the metadata.
Otherwise each file is a row {"file_name": …, "label": its folder}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmrl.errors import DataError

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_MEDIA = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".mp4", ".mkv", ".webm", ".avi", ".mov")

Table = Callable[[Path], Iterator[tuple[int, Any]]]


def folder_rows(folder: Path, *, table: Table) -> Iterator[tuple[int, Any]]:
    """The rows of a folder, sorted by path; `table` reads the metadata file."""
    tables = sorted(path for name in _METADATA for path in folder.rglob(name))
    if tables:
        number = 0
        for path in tables:
            for _, row in table(path):
                number += 1
                if isinstance(row, dict) and isinstance(row.get("file_name"), str):
                    row = {**row, "file_name": (path.parent / row["file_name"]).relative_to(folder).as_posix()}
                yield number, row
        return
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _MEDIA and path.is_file())
    if not files:
        raise DataError(f"{folder} holds no picture, no clip and no {' or '.join(_METADATA)}")
    for number, path in enumerate(files, start=1):
        inside = path.relative_to(folder)
        label = inside.parent.name
        yield number, {"file_name": inside.as_posix(), **({"label": label} if label else {})}
