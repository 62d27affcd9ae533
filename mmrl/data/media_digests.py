"""`media.jsonl`: which media files a built data set refers to, where they are, and what they held when it was built.

    {"path": "/coco/train2014/1.jpg", "bytes": 81234, "sha256": "9f…"}

One object a file, by path. One that is not there, or cannot be read, has `null` instead. Media that the build itself
wrote lie in its folder, whose lock has their hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from mmrl.progress import Progress

MEDIA_NAME = "media.jsonl"
_AT_ONCE = 256  # files that wait for the threads; hashing holds no interpreter lock
_THREADS = 4
_NAMED = 3  # changed files that a message names


def write_media_digests(cited: Iterable[tuple[str, bool]], folder: Path, *, total: int, progress: Progress) -> None:
    """Writes the list for `cited`: (absolute path, whether its content is hashed). Nothing where there is none."""
    if total == 0:
        return
    entries = iter(cited)
    with (
        open(folder / MEDIA_NAME, "w", encoding="utf-8", newline="\n") as file,
        ThreadPoolExecutor(_THREADS) as pool,
        progress.task("media hashed", total) as task,
    ):
        while some := list(islice(entries, _AT_ONCE)):
            for entry in pool.map(_entry, some):
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                task.advance()
        file.flush()
        os.fsync(file.fileno())


def changed_media(folder: Path) -> list[str]:
    """What of the listed media is gone or has another size than when the data set was built, in words: a few, and how
    many more. Contents are not read again.
    """
    found = list(islice(_changes(folder), _NAMED + 1))
    return [*found[:_NAMED], "and more"] if len(found) > _NAMED else found


def _changes(folder: Path) -> Iterator[str]:
    listed = folder / MEDIA_NAME
    if not listed.is_file():
        return
    with open(listed, encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            now = _size(entry["path"])
            if entry["bytes"] is not None and now != entry["bytes"]:
                yield f"{entry['path']} had {entry['bytes']} bytes and " + ("is gone" if now is None else f"has {now}")


def _entry(cited: tuple[str, bool]) -> dict[str, Any]:
    path, whole = cited
    entry: dict[str, Any] = {"path": path, "bytes": _size(path)}
    if whole:
        entry["sha256"] = None
        with contextlib.suppress(OSError), open(path, "rb") as file:
            entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return entry


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
