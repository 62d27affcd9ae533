"""What is known of every media file of some manifests, on disk: each file is opened once, whatever asks about it.

A SQLite file. Kept with `--index FILE`, it spares the next verb the decoding: a file is opened again only if its size
or its time of change differ from when it was looked into. Otherwise it is temporary. Files are looked into by worker
processes with a time limit each; what was found is kept as it comes in, so that an interrupted verb goes on where it
was.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.looks import LOOK, Looks
from mmrl.curation.media_facts import DEPTHS, SAMPLED_FRAMES, Depth, MediaFacts, Request, examine
from mmrl.curation.scan import number_of
from mmrl.curation.workers import Failed, available_cores, run_killable
from mmrl.errors import RunError
from mmrl.progress import Progress
from mmrl.types import Media

_REVISION = 1  # of the table and of what `examine` finds; another one is looked into anew
_COLUMNS = [field.name for field in fields(MediaFacts)]
_BRIEF = [name for name in _COLUMNS if name not in ("digest", "looks")]
_COMMIT_EVERY = 2000  # files


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """How media are looked into."""

    depth: Depth
    index: Path | None = None  # a file to keep what is found in; None: a temporary one
    seconds: float = 60.0  # a file may take so long
    workers: int | None = None  # processes; None: one a core


Wanted = tuple[str, str]  # (path, "image" or "video")


def wanted_of(media: Iterable[Media]) -> list[Wanted]:
    """The files of some media items."""
    found: list[Wanted] = []
    for item in media:
        if item.path is not None:
            found.append((item.path, item.type))
        found += [(path, "image") for path in item.paths]
    return found


class MediaIndex:
    """The open index. `add` what is wanted, `complete` it, then ask."""

    def __init__(self, path: Path, database: sqlite3.Connection, examination: Examination) -> None:
        self.path = path
        self._database = database
        self._examination = examination
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS media (key INTEGER PRIMARY KEY, path TEXT, kind TEXT, width INTEGER, height "
            "INTEGER, seconds REAL, frames INTEGER, digest BLOB, looks BLOB, reason TEXT, message TEXT, depth INTEGER, "
            "size INTEGER, changed INTEGER, revision INTEGER)"
        )
        database.execute("CREATE TEMP TABLE wanted (key INTEGER PRIMARY KEY, path TEXT, kind TEXT)")

    def add(self, files: Iterable[Wanted]) -> None:
        """Files that the manifests name; any number of times."""
        rows = [(_key(path, kind), path, kind) for path, kind in files]
        self._database.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", rows)

    def complete(self, progress: Progress) -> None:
        """Looks into every wanted file that is not known yet, or has changed."""
        todo = [row[0] for row in self._stale()]
        self._database.commit()
        if not todo:
            return
        requests = self._requests(todo)
        cores = self._examination.workers or available_cores()
        pool = run_killable(examine, requests, workers=min(cores, len(todo)), seconds=self._examination.seconds)
        with progress.task("media files", len(todo)) as task:
            for done, (key, found) in enumerate(zip(todo, pool, strict=True), start=1):
                self._store(key, found)
                if done % _COMMIT_EVERY == 0:
                    self._database.commit()
                task.advance()
        self._database.commit()

    def facts(self) -> Iterator[MediaFacts]:
        """Of every wanted file, in the order of `file_number`."""
        named = ", ".join(f"media.{name}" for name in _COLUMNS)
        for half in ("wanted.key >= 0", "wanted.key < 0"):  # SQLite's integers have a sign: the upper half comes second
            query = f"SELECT {named} FROM wanted JOIN media USING (key) WHERE {half} ORDER BY wanted.key"
            for row in self._database.execute(query):
                yield MediaFacts(**dict(zip(_COLUMNS, row, strict=True)))

    def of(self, path: str, kind: str) -> MediaFacts:
        """Of one wanted file."""
        return read_facts(self._database, path, kind)

    def count(self) -> int:
        """Wanted files."""
        return int(self._database.execute("SELECT count(*) FROM wanted").fetchone()[0])

    def _stale(self) -> Iterator[tuple[int]]:
        """Keys of wanted files that must be looked into, in the order of their paths."""
        depth = DEPTHS.index(self._examination.depth)
        query = (
            "SELECT wanted.key, wanted.path, media.size, media.changed, media.depth, media.revision, media.kind, "
            "wanted.kind FROM wanted LEFT JOIN media USING (key) ORDER BY wanted.path"
        )
        for key, path, size, changed, known, revision, kind, wanted_kind in self._database.execute(query):
            fresh = known is not None and known >= depth and revision == _REVISION and kind == wanted_kind
            if not fresh or (size, changed) != _state(path):
                yield (key,)

    def _requests(self, keys: list[int]) -> Iterator[Request]:
        for key in keys:
            path, kind = self._database.execute("SELECT path, kind FROM wanted WHERE key = ?", (key,)).fetchone()
            yield Request(path=path, kind=kind, depth=self._examination.depth)

    def _store(self, key: int, found: MediaFacts | Failed) -> None:
        path, kind = self._database.execute("SELECT path, kind FROM wanted WHERE key = ?", (key,)).fetchone()
        if isinstance(found, Failed):
            message = f"{path} {found.detail}. Its samples are dropped; convert it, or look at the file."
            found = MediaFacts(path=path, kind=kind, reason=f"decoder: {found.reason}", message=message)
        size, changed = _state(path)
        row = (key, *astuple(found), DEPTHS.index(self._examination.depth), size, changed, _REVISION)
        self._database.execute(f"INSERT OR REPLACE INTO media VALUES ({', '.join('?' * len(row))})", row)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactTable:
    """The facts as arrays, sorted by `number` (`file_number`). A million pictures with looks are 230 MB."""

    number: NDArray[np.uint64]
    digest: NDArray[np.uint64]
    broken: NDArray[np.bool_]
    video: NDArray[np.bool_]
    looks: Looks | None  # [files]; meaningful for pictures
    clips: NDArray[np.int64]  # places of the sound videos
    frames: Looks | None  # [clips, 8]

    def place(self, numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Where each of these files stands in the table."""
        return np.searchsorted(self.number, numbers)


def fact_table(index: MediaIndex, *, looks: bool) -> FactTable:
    """Of every wanted file."""
    count = index.count()
    number, digest = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    broken, video = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    pictures = np.zeros(count if looks else 0, dtype=LOOK)
    clips: list[int] = []
    frames: list[bytes] = []
    for place, fact in enumerate(index.facts()):
        number[place] = file_number(fact.path, fact.kind)
        digest[place] = int.from_bytes(fact.digest[:8], "little")
        broken[place], video[place] = bool(fact.reason), fact.kind == "video"
        if fact.kind == "video" and not fact.reason:
            clips.append(place)
            frames.append(fact.looks)
        elif looks and not fact.reason:
            pictures[place] = np.frombuffer(fact.looks, dtype=LOOK)[0]
    seen = np.frombuffer(b"".join(frames), dtype=LOOK).reshape(-1, SAMPLED_FRAMES) if looks else None
    return FactTable(
        number=number,
        digest=digest,
        broken=broken,
        video=video,
        looks=pictures if looks else None,
        clips=np.array(clips, dtype=np.int64),
        frames=seen,
    )


def file_number(path: str, kind: str) -> int:
    """64 bits for a file as one kind of medium: a file that is no picture may be a sound clip, and the reverse."""
    return number_of(path if kind == "image" else f"{kind}\0{path}")


def read_facts(database: sqlite3.Connection, path: str, kind: str) -> MediaFacts:
    """Of one file that was looked into, without its looks."""
    query = f"SELECT {', '.join(_BRIEF)} FROM media WHERE key = ?"
    row = database.execute(query, (_key(path, kind),)).fetchone()
    return MediaFacts(**dict(zip(_BRIEF, row, strict=True)))


@contextmanager
def media_index(examination: Examination) -> Iterator[MediaIndex]:
    """Opens the index; a temporary one is removed at the end."""
    kept = examination.index
    with tempfile.TemporaryDirectory(prefix="mmrl-media-") as folder:
        path = Path(folder) / "media.sqlite" if kept is None else kept
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = sqlite3.connect(path)
            index = MediaIndex(path, database, examination)
        except sqlite3.DatabaseError as error:
            raise RunError(f"{path} is no index of media ({error}); name another file, or delete it") from None
        try:
            yield index
            database.commit()
        finally:
            database.close()


def _key(path: str, kind: str) -> int:
    """SQLite's integers have a sign."""
    return cast(Any, np.uint64(file_number(path, kind)).astype(np.int64)).item()  # type: ignore[no-any-return]


def _state(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
