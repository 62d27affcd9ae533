"""Media files that could not be used, remembered: a run does not try them again, and its folder says which they are.

    runs/<name>/quarantine.jsonl    one object a line: sample_id, path, reason, detail, media, files

`files` are [bytes, time of change in ns]: a file that has been replaced since is tried again.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from mmrl.data.images import BrokenMedia
from mmrl.types import Media


class Quarantine:
    """What is known to be broken. Without a file it is remembered in this process only. Any thread may use it."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        self._gap = ""  # what separates the next line from half a line that a killed run may have left
        if file is not None and file.is_file():
            lines = file.read_bytes().splitlines(keepends=True)
            self._gap = "\n" if lines and not lines[-1].endswith(b"\n") else ""
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    self._known[entry["media"]] = entry

    def refuse(self, media: Media) -> None:
        """Raise what was raised before where this item is known to be unusable and its files are still the same."""
        with self._lock:
            entry = self._known.get(_key(media))
            if entry is None:
                return
            if _stamps(media) != entry["files"]:
                del self._known[_key(media)]
                return
        raise BrokenMedia(entry["detail"], reason=entry["reason"])

    def add(self, media: Media, error: BrokenMedia, *, sample_id: str) -> None:
        """Remember an item that could not be used, and for which sample that was found."""
        key = _key(media)
        entry = {
            "sample_id": sample_id,
            "path": media.path or (media.paths[0] if media.paths else ""),
            "reason": error.reason,
            "detail": str(error),
            "media": key,
            "files": _stamps(media),
        }
        with self._lock:
            if self._known.get(key) == entry:
                return
            self._known[key] = entry
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(self._gap + json.dumps(entry, ensure_ascii=False) + "\n")
                self._gap = ""


def _key(media: Media) -> str:
    """Everything that decides what is decoded, as text."""
    files = media.path or list(media.paths)
    return json.dumps([media.type, files, media.start, media.end, media.fps, media.max_frames], ensure_ascii=False)


def _stamps(media: Media) -> list[list[int]]:
    """[bytes, time of change in ns] of each file; [-1, -1] where there is none."""
    stamps = []
    for path in media.paths or (media.path or "",):
        try:
            status = os.stat(path)
            stamps.append([status.st_size, status.st_mtime_ns])
        except OSError:
            stamps.append([-1, -1])
    return stamps
