"""The seal of a checkpoint: `trainer/manifest.json`, written last, with the size and SHA-256 of every other file.

    {"format": 1, "step": 50, "ranks": 1, "metrics": {…}, "versions": {…},
     "files": {"model.safetensors": {"bytes": 5312344, "sha256": "9f2c…"}, …}}

A folder without it was never finished. One whose files do not agree with it was damaged after it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.atomic import flush_folder

SEAL = Path("trainer") / "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What a checkpoint says of itself."""

    step: int  # RL steps that are done
    ranks: int  # processes that wrote it
    metrics: Mapping[str, float]  # of the last of these steps
    versions: Mapping[str, str]  # of the packages that made it
    files: Mapping[str, tuple[int, str]]  # path inside the folder → (bytes, SHA-256)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())


def seal_folder(
    folder: Path, *, step: int, ranks: int, metrics: Mapping[str, float], versions: Mapping[str, str]
) -> None:
    """Write every file of the folder to the disk, and then what they are."""
    files = {}
    for path in _files(folder):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _flushed_digest(path)}
    content = {
        "format": FORMAT,
        "step": step,
        "ranks": ranks,
        "metrics": dict(metrics),
        "versions": dict(versions),
        "files": files,
    }
    with open(folder / SEAL, "xb") as file:
        file.write(json.dumps(content, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    for inside in [path for path in folder.rglob("*") if path.is_dir()] + [folder]:
        flush_folder(inside)


def read_seal(folder: Path) -> Seal | None:
    """What the checkpoint says of itself; None where it says nothing that can be read."""
    try:
        content: dict[str, Any] = json.loads((folder / SEAL).read_bytes())
        return Seal(
            step=int(content["step"]),
            ranks=int(content["ranks"]),
            metrics=dict(content["metrics"]),
            versions=dict(content["versions"]),
            files={name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in content["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where every file is what was written."""
    seal = read_seal(folder)
    if seal is None:
        return f"{SEAL.as_posix()} is missing or unreadable"
    for name, (size, digest) in seal.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
        if _digest(path) != digest:
            return f"{name} is not what was written (its SHA-256 differs)"
    return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / SEAL)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flushed_digest(path: Path) -> str:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
