"""Completions on disk, by the content of what they were made from.

    completions/
      4f…/                       one folder per model: the first 16 digits of its key
        3b1c….jsonl              one file per process that wrote: {"key": "…", "text": "…", "token_ids": […], …}

Files are only appended to, whole lines at a time, and each by one process: a killed evaluation loses at most what it
was writing, and several may run side by side. A line that is not whole is passed over. A folder can be copied, joined
with another by copying files, or removed at any time.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrl.errors import RunError

Json = Mapping[str, Any]


class CompletionStore:
    """What one model was asked already. `model_key`: of its weights and whatever else decides what it writes."""

    def __init__(self, folder: Path, *, model_key: str) -> None:
        self._folder = folder / model_key[:16]
        self._file = self._folder / f"{uuid.uuid4().hex}.jsonl"
        self._known: dict[str, Json] = {}
        try:
            for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else []:
                for line in path.read_bytes().splitlines():
                    _take(line, self._known)
        except OSError as error:
            raise RunError(
                f"{folder}: the completions kept there cannot be read ({error.strerror}). Name another folder."
            ) from error

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Json | None:
        """What was stored under `key`."""
        return self._known.get(key)

    def add(self, entries: Mapping[str, Json]) -> None:
        """Keep these, on the disk before this returns."""
        fresh = {key: value for key, value in entries.items() if key not in self._known}
        if not fresh:
            return
        lines = [json.dumps({"key": key, **value}, ensure_ascii=False, allow_nan=False) for key, value in fresh.items()]
        content = "".join(line + "\n" for line in lines).encode("utf-8", errors="backslashreplace")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._file, "ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{self._folder}: completions cannot be kept there ({error.strerror}). Make room, name another folder, "
                f"or go on without keeping them."
            ) from error
        self._known |= fresh


def _take(line: bytes, known: dict[str, Json]) -> None:
    try:
        entry = json.loads(line)
        known[entry.pop("key")] = entry
    except (ValueError, KeyError, AttributeError, TypeError):
        pass  # cut off where its writer was killed: what it held is generated again
