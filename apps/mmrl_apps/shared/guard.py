"""Which files a page may open: the media that manifests name, and no others.

A trace is a file that somebody may have passed on, so the paths in it prove nothing. What counts is the list of paths
in the run's own manifests; a path is compared as it is spelled after `.` and `..` are taken out, so no spelling leads
elsewhere. The manifests are read when the first medium is asked for, and again when they change.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmrl.errors import DataError
from mmrl.types import Media


class MediaGuard:
    """Knows the media of some manifests."""

    def __init__(self, manifests: Iterable[Path]) -> None:
        self._manifests = tuple(manifests)
        self._read: dict[Path, tuple[int, int]] = {}  # manifest → its size and time when it was read
        self._allowed: dict[Path, frozenset[str]] = {}
        self._lock = threading.Lock()

    def check(self, media: Media) -> None:
        """DataError, in words a page can show, unless every file of the item is named by a manifest."""
        for path in media.paths if media.path is None else (media.path,):
            self.check_path(path)

    def check_path(self, path: str) -> None:
        """The same for one path, which must be absolute."""
        with self._lock:
            self._refresh()
            known = any(_spelled(path) in allowed for allowed in self._allowed.values())
        if not known or not os.path.isabs(path):
            names = ", ".join(manifest.name for manifest in self._manifests) or "none was found"
            raise DataError(
                f"{Path(path).name} is not shown: no manifest of this run names it (manifests: {names}). Only media of "
                "the run's manifests are opened; put the manifest back where config.yaml says, or give it on the "
                "command line."
            )

    def _refresh(self) -> None:
        for manifest in self._manifests:
            try:
                status = manifest.stat()
            except OSError:
                self._allowed.pop(manifest, None)
                self._read.pop(manifest, None)
                continue
            seen = (status.st_size, status.st_mtime_ns)
            if self._read.get(manifest) != seen:
                self._allowed[manifest] = frozenset(_named(manifest))
                self._read[manifest] = seen


def _named(manifest: Path) -> Iterator[str]:
    """Every media path of a manifest. Rows that are none are passed over: others say what is wrong with them."""
    root = os.path.dirname(os.path.abspath(manifest))
    with manifest.open("rb") as file:
        for line in file:
            try:
                items = _loads(line)["media"]
                paths = [path for item in items for path in item.get("paths") or (item.get("path"),)]
                yield from (_spelled(os.path.join(root, path)) for path in paths if isinstance(path, str))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue


def _loads(line: bytes) -> Any:
    """Four times as fast as the standard library alone, which also reads names that are not UTF-8 (as "\\udce9")."""
    from orjson import loads

    try:
        return loads(line)
    except ValueError:
        return json.loads(line)


def _spelled(path: str) -> str:
    return os.path.normpath(path)
