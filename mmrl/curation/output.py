"""Files that a verb makes: they grow aside and appear whole at the end, and never in place of another."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from mmrl.atomic import flush_folder
from mmrl.errors import RunError


def refuse_existing(paths: Iterable[Path]) -> None:
    """A RunError that names what is in the way."""
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise RunError(f"{', '.join(there)} exist(s) and is not overwritten; choose another --out, or delete it first")


def dropped_file(out: Path) -> Path:
    """Where the rows left out of a manifest are listed: train.jsonl → train.dropped.jsonl."""
    return out.with_name(f"{out.stem}.dropped.jsonl")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class Outputs:
    """Several files that grow together. With `dry_run`, bytes are counted as written and go nowhere."""

    def __init__(self, paths: Iterable[Path], *, dry_run: bool) -> None:
        self._paths = list(paths)
        self._dry_run = dry_run
        self._files: dict[Path, BinaryIO] = {}

    def write(self, path: Path, content: bytes) -> None:
        """Appends. A file that nothing is written to does not appear."""
        if self._dry_run or not content:
            return
        if path not in self._files:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files[path] = open(_aside(path), "xb")  # noqa: SIM115  # closed by `opened`
        self._files[path].write(content)

    def _publish(self) -> None:
        for path, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(file.name, path)
        for folder in {path.parent for path in self._files}:
            flush_folder(folder)

    def _discard(self) -> None:
        for file in self._files.values():
            file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)


@contextlib.contextmanager
def opened(paths: Iterable[Path], *, dry_run: bool) -> Iterator[Outputs]:
    """Refuses existing files first; publishes all files if the block ends well, and none otherwise."""
    listed = list(paths)
    refuse_existing(listed)
    outputs = Outputs(listed, dry_run=dry_run)
    try:
        yield outputs
    except BaseException:
        outputs._discard()
        raise
    outputs._publish()


def json_line(row: Mapping[str, object]) -> bytes:
    return (_ENCODER.encode(row) + "\n").encode("utf-8")


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """Most frequent first, then by name; without zeros."""
    return dict(sorted(((k, n) for k, n in Counter(counts).items() if n), key=lambda pair: (-pair[1], pair[0])))


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
