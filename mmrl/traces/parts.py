"""The index of a run's traces on disk: Parquet files, each with the rows of some steps, and a list of them.

    traces/.index/parts.json                     which parts there are, and which step files (size, time) they tell of
    traces/.index/<first step>-<random>.groups.parquet     a row per line
    traces/.index/<first step>-<random>.texts.parquet      the text that is searched

Everything in it can be made again from the traces. A part is written whole before the list names it, and the list is
replaced in one piece, so a killed process leaves an older index and some files that the next writer removes. A part
whose step files are gone or other than they were (the run was resumed from before them) is dropped with them. Parts
are filled to `ROLLOUTS_A_PART`; the last one is written again as the run grows. One process writes at a time; others
read what it publishes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmrl.atomic import write_atomically
from mmrl.errors import ConfigError
from mmrl.traces.rows import COLUMNS, GroupRow, group_row
from mmrl.traces.writer import step_files, step_path

SCHEMA = 1  # of the columns; another one means: make it again
ROLLOUTS_A_PART = 50_000
PUBLISH_SECONDS = 2.0  # how often new rows are shown while a large run is indexed
LIST = "parts.json"
_FORGOTTEN_SECONDS = 60.0  # unlisted files of that age belong to nobody

Stamp = tuple[int, int]  # size and time of change of a step's file


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some steps of the index."""

    name: str
    rollouts: int
    steps: dict[int, Stamp]
    problems: tuple[str, ...] = ()  # lines that are no trace, and why

    def groups(self, folder: Path) -> Path:
        return folder / f"{self.name}.groups.parquet"

    def texts(self, folder: Path) -> Path:
        return folder / f"{self.name}.texts.parquet"


def index_folder(traces: Path) -> Path:
    """Beside the traces; in the user's cache where that place cannot be written."""
    if os.access(traces, os.W_OK):
        return traces / ".index"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "mmrl" / "traces" / hashlib.sha256(str(traces.resolve()).encode()).hexdigest()[:24]


def stamps(traces: Path) -> dict[int, Stamp]:
    """The step files that are there, ascending."""
    found = {}
    for step, path in (step_files(traces) if traces.is_dir() else {}).items():
        try:
            status = path.stat()
        except FileNotFoundError:  # discarded since we looked
            continue
        found[step] = (status.st_size, status.st_mtime_ns)
    return found


def read_parts(folder: Path) -> list[Part]:
    """What is published; nothing where there is no list, or one of another schema, or a damaged one."""
    try:
        body = json.loads((folder / LIST).read_bytes())
        if body["schema"] != SCHEMA:
            return []
        parts = [
            Part(
                name=p["name"],
                rollouts=p["rollouts"],
                steps={int(step): (stamp[0], stamp[1]) for step, stamp in p["steps"].items()},
                problems=tuple(p["problems"]),
            )
            for p in body["parts"]
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
    return [p for p in parts if p.groups(folder).is_file() and p.texts(folder).is_file()]


def update_parts(traces: Path, folder: Path, published: Callable[[list[Part]], None] = lambda parts: None) -> bool:
    """Bring the index up to the traces. False where another process is at it.

    `published` is called with the list whenever new rows can be read.
    """
    there = stamps(traces)
    parts = read_parts(folder)
    sound = [p for p in parts if all(there.get(step) == stamp for step, stamp in p.steps.items())]
    covered = {step for p in sound for step in p.steps}
    missing = [step for step in there if step not in covered]
    if not missing and len(sound) == len(parts):
        return True
    import pyarrow as pa

    folder.mkdir(parents=True, exist_ok=True)
    with _writing(folder) as mine:
        if not mine:
            return False
        if len(sound) < len(parts):
            _publish(folder, sound)
            published(sound)
        try:
            filling = _Filling(traces, folder, sound)
        except (pa.ArrowException, OSError):  # the part that is still filled is damaged, so all of it is made again
            filling, missing = _Filling(traces, folder, []), list(there)
        for step in missing:
            filling.add(step, there[step])
            if filling.due:
                published(filling.publish())
        if filling.pending:
            published(filling.publish())
        _remove_unlisted(folder)
    return True


class _Filling:
    """Collects rows for the last part, and starts a new one when it is full."""

    def __init__(self, traces: Path, folder: Path, parts: list[Part]) -> None:
        self._traces, self._folder = traces, folder
        self._parts = list(parts)
        self._open = self._parts.pop() if self._parts and self._parts[-1].rollouts < ROLLOUTS_A_PART else None
        self._start()
        self.pending = False

    def _start(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._tables: list[tuple[pa.Table, pa.Table]] = []
        self._steps: dict[int, Stamp] = {}
        self._problems: list[str] = []
        self._rollouts = 0
        self._since = time.monotonic()
        if self._open is not None:
            old = self._open
            self._tables.append((pq.read_table(old.groups(self._folder)), pq.read_table(old.texts(self._folder))))
            self._steps, self._problems, self._rollouts = dict(old.steps), list(old.problems), old.rollouts

    @property
    def due(self) -> bool:
        return self._rollouts >= ROLLOUTS_A_PART or time.monotonic() - self._since >= PUBLISH_SECONDS

    def add(self, step: int, stamp: Stamp) -> None:
        rows, texts, problems = read_rows(step_path(self._traces, step))
        self._tables.append(_tables(rows, texts))
        self._steps[step] = stamp
        self._problems += problems
        self._rollouts += sum(row.size for row in rows)
        self.pending = True

    def publish(self) -> list[Part]:
        """Write the part, list it, and go on filling it unless it is full."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        part = Part(
            name=f"{min(self._steps):08d}-{secrets.token_hex(4)}",
            rollouts=self._rollouts,
            steps=self._steps,
            problems=tuple(self._problems),
        )
        for which, path in enumerate((part.groups(self._folder), part.texts(self._folder))):
            table = pa.concat_tables([pair[which] for pair in self._tables])
            unfinished = path.with_suffix(".part")
            pq.write_table(table, unfinished, compression="zstd" if which == 0 else "lz4", row_group_size=8192)
            os.replace(unfinished, path)
        parts = [*self._parts, part]
        _publish(self._folder, parts)
        self._open = part if part.rollouts < ROLLOUTS_A_PART else None
        if self._open is None:
            self._parts.append(part)
        self.pending = False
        self._start()
        return parts


def read_rows(path: Path) -> tuple[list[GroupRow], list[str], list[str]]:
    """The rows of a step's file, the texts that are searched, and what is wrong with lines that are no trace."""
    from orjson import loads

    rows, texts, problems = [], [], []
    place = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    row, text = group_row(_loads(loads, raw), place=place, extent=len(raw))
                    rows.append(row)
                    texts.append(text)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    if raw.endswith(b"\n"):  # else it is still being copied
                        problems.append(f"{path.name}:{number}: {type(error).__name__}: {error}"[:300])
                place += len(raw)
    except FileNotFoundError:  # discarded since we looked; the next look drops it
        pass
    return rows, texts, problems


def _loads(loads: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return loads(raw)
    except ValueError:
        return json.loads(raw)  # a lone surrogate is JSON to Python and to the writer, but not to orjson


def _tables(rows: list[GroupRow], texts: list[str]) -> tuple[Any, Any]:
    import pyarrow as pa

    kinds = {
        **dict.fromkeys(("step", "size", "longest", "cut", "different", "extent"), pa.int32()),
        "place": pa.int64(),
        **dict.fromkeys(("sample_id", "task", "question", "stage", "reason"), pa.string()),
        **dict.fromkeys(("equal", "lucky"), pa.bool_()),
        "part_names": pa.list_(pa.string()),
        "part_means": pa.list_(pa.float32()),
    }
    clean = [{name: _clean(getattr(row, name)) for name in COLUMNS} for row in rows]
    schema = pa.schema([(name, kinds.get(name, pa.float32())) for name in COLUMNS])
    words = [{"step": r.step, "place": r.place, "text": _clean(text)} for r, text in zip(rows, texts, strict=True)]
    text_schema = pa.schema([("step", pa.int32()), ("place", pa.int64()), ("text", pa.string())])
    return pa.Table.from_pylist(clean, schema=schema), pa.Table.from_pylist(words, schema=text_schema)


def _clean(value: Any) -> Any:
    """Text that UTF-8 can hold; numbers that are none as null."""
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace").decode()
    if isinstance(value, float) and value != value:
        return None
    return [_clean(item) for item in value] if isinstance(value, tuple) else value


def forget(folder: Path) -> None:
    """Everything is made again by the next `update_parts`."""
    (folder / LIST).unlink(missing_ok=True)


def _publish(folder: Path, parts: list[Part]) -> None:
    body = {"schema": SCHEMA, "parts": [asdict(part) for part in parts]}
    write_atomically(folder / LIST, json.dumps(body).encode())


def _remove_unlisted(folder: Path) -> None:
    listed = {path.name for p in read_parts(folder) for path in (p.groups(folder), p.texts(folder))}
    old = time.time() - _FORGOTTEN_SECONDS
    for path in folder.iterdir():
        if path.suffix in (".parquet", ".part") and path.name not in listed:
            try:
                if path.stat().st_mtime < old or path.suffix == ".part":
                    path.unlink()
            except FileNotFoundError:
                continue


@contextmanager
def _writing(folder: Path) -> Iterator[bool]:
    """Whether this process may write. The lock goes with the process, however it ends."""
    try:
        file = (folder / "lock").open("a")
    except OSError as error:
        raise ConfigError(f"the index of the traces cannot be written in {folder} ({error.strerror}).") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
