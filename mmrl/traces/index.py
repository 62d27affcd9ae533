"""Finds groups among millions of rollouts: DuckDB over the columns that `parts.py` keeps beside the traces.

    index = TraceIndex(run_dir)
    index.refresh()                                    # brings it up to the traces; again and again while the run grows
    rows, count = index.find(Find(task="box", odd="one lucky"), limit=50)
    group = index.group(rows[0])                       # the whole TraceGroup, read from its place in the step's file

A row per group is in memory (about 300 bytes); the searched text stays on disk. No torch.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.errors import ConfigError, RunError
from mmrl.traces.codec import decode
from mmrl.traces.parts import Part, forget, index_folder, read_parts, stamps, update_parts
from mmrl.traces.query import SORTS, Find, conditions
from mmrl.traces.record import TraceGroup
from mmrl.traces.rows import COLUMNS, GroupRow
from mmrl.traces.writer import step_path

MEMORY = "384MB"  # of DuckDB
_LOOK_SECONDS = 1.0  # how often what another process has indexed is looked at
_APART = """
import os, sys
from pathlib import Path
from mmrl.traces.parts import update_parts
os.nice(10)
update_parts(Path(sys.argv[1]), Path(sys.argv[2]))
"""

_CREATE = """
CREATE TABLE groups (part VARCHAR, step INTEGER, place BIGINT, extent INTEGER, sample_id VARCHAR, task VARCHAR,
  question VARCHAR, stage VARCHAR, reason VARCHAR, size INTEGER, total FLOAT, spread FLOAT, deviation FLOAT,
  accuracy FLOAT, pass_rate FLOAT, form FLOAT, tokens FLOAT, longest INTEGER, cut INTEGER, different INTEGER,
  equal BOOLEAN, lucky BOOLEAN, form_only FLOAT, contradicts FLOAT, part_names VARCHAR[], part_means FLOAT[])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """What there is to choose from."""

    steps: tuple[int, int] | None  # first and last that are indexed; None: nothing yet
    groups: int
    rollouts: int
    tasks: tuple[str, ...]
    reasons: tuple[str, ...]
    parts: tuple[str, ...]  # names of rewards
    pending: int  # steps on disk that are not indexed yet
    problems: tuple[str, ...]  # lines that are no trace


class TraceIndex:
    """The groups of one run. Safe to use from several threads."""

    def __init__(self, run_dir: Path, *, folder: str = "traces") -> None:
        """Shows at once what an earlier `refresh` has left. RunError where there is no such run folder."""
        try:
            import duckdb
            import orjson  # noqa: F401
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"looking through traces needs the package {error.name}: pip install 'mmrl[apps]'."
            ) from None
        if not run_dir.is_dir():
            raise RunError(
                f"{run_dir}: there is no such run folder. Give the folder that holds config.yaml and traces/."
            )
        self._traces = run_dir / folder
        self._folder = index_folder(self._traces)
        self._lock = threading.Lock()  # of what is loaded
        self._updating = threading.Lock()
        self._parts: dict[str, Part] = {}
        self._connection = duckdb.connect(config={"memory_limit": MEMORY, "threads": 2})
        self._connection.execute(_CREATE)
        self._load(read_parts(self._folder))

    def close(self) -> None:
        """Give the memory back; nothing can be found after that."""
        with self._updating, self._lock:
            self._connection.close()

    def refresh(self) -> None:
        """Index the steps that are new or changed; drop those that are gone. What is found shows up on the way."""
        if not self._updating.acquire(blocking=False):
            return
        try:
            update_parts(self._traces, self._folder, self._load)
            self._load(read_parts(self._folder))  # another process may have written
        finally:
            self._updating.release()

    def refresh_apart(self, *, stop: threading.Event | None = None) -> None:
        """`refresh` for many steps: another process reads them, at low priority, and this one stays free to answer.

        What is found shows up on the way. With `stop` set the other process is ended; what it published stays.
        """
        if not self._updating.acquire(blocking=False):
            return
        try:
            paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
            command = [sys.executable, "-P", "-c", _APART, str(self._traces), str(self._folder)]
            with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, start_new_session=True) as process:
                while process.poll() is None:
                    if stop is not None and stop.wait(_LOOK_SECONDS):
                        process.kill()
                    elif stop is None:
                        time.sleep(_LOOK_SECONDS)
                    self._load(read_parts(self._folder))
            if process.returncode and not (stop is not None and stop.is_set()):
                raise RunError(f"the process that indexes {self._traces} ended with code {process.returncode}.")
            self._load(read_parts(self._folder))
        finally:
            self._updating.release()

    def pending(self) -> int:
        """Steps on disk that are not indexed as they are now."""
        with self._lock:
            known = {step: stamp for part in self._parts.values() for step, stamp in part.steps.items()}
        return sum(known.get(step) != stamp for step, stamp in stamps(self._traces).items())

    def facets(self) -> Facets:
        """Choices for a page's controls."""
        first, last, groups, rollouts = self._one("SELECT min(step), max(step), count(*), sum(size) FROM groups")
        with self._lock:
            covered = {step for part in self._parts.values() for step in part.steps}
            problems = tuple(line for part in self._parts.values() for line in part.problems)
        return Facets(
            steps=None if first is None else (first, last),
            groups=groups,
            rollouts=int(rollouts or 0),
            tasks=self._names("SELECT DISTINCT task FROM groups WHERE task <> '' ORDER BY 1"),
            reasons=self._names("SELECT DISTINCT reason FROM groups WHERE stage <> '' ORDER BY 1"),
            parts=self._names("SELECT DISTINCT unnest(part_names) FROM groups ORDER BY 1"),
            pending=len(set(stamps(self._traces)) - covered),
            problems=problems,
        )

    def find(self, find: Find, *, limit: int = 50, skip: int = 0) -> tuple[list[GroupRow], int]:
        """Rows `skip` … `skip + limit` of those that are looked for, in their order, and how many there are in all."""
        where, values = self._where(find)
        order = f"{SORTS[find.sort]}, step, place"
        # Counted in the same pass: a text is looked for once.
        sql = (
            f"SELECT {', '.join(COLUMNS)}, count(*) OVER () FROM groups WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        )
        found = self._searched(sql, [*values, limit, skip])
        if not found and skip:
            return [], self._one(f"SELECT count(*) FROM groups WHERE {where}", values)[0]
        return [_row(row[:-1]) for row in found], found[0][-1] if found else 0

    def places(self, find: Find, *, limit: int) -> list[tuple[int, int]]:
        """Step and place of the first `limit` groups that are looked for, in their order; of scored ones only."""
        where, values = self._where(find)
        sql = f"SELECT step, place FROM groups WHERE ({where}) AND size > 0 ORDER BY {SORTS[find.sort]}, step, place"
        return [(int(step), int(place)) for step, place in self._searched(f"{sql} LIMIT ?", [*values, limit])]

    def at(self, step: int, place: int) -> GroupRow | None:
        """The row of the line that begins at byte `place` of a step's file."""
        found = self._all(f"SELECT {', '.join(COLUMNS)} FROM groups WHERE step = ? AND place = ?", [step, place])
        return _row(found[0]) if found else None

    def visits(self, sample_id: str) -> list[GroupRow]:
        """Every time a sample was asked, in order of step."""
        sql = f"SELECT {', '.join(COLUMNS)} FROM groups WHERE sample_id = ? AND size > 0 ORDER BY step, place"
        return [_row(found) for found in self._all(sql, [sample_id])]

    def pass_rates(self) -> dict[str, tuple[int, float]]:
        """Sample id → how many rollouts it had and the share that was correct; twins of altered prompts left out."""
        sql = """SELECT sample_id, sum(size), sum(size * pass_rate) / sum(size) FROM groups
                 WHERE size > 0 AND stage <> 'view' GROUP BY 1"""
        return {sample: (int(size), float(rate)) for sample, size, rate in self._all(sql)}

    def first_and_last(self) -> dict[str, tuple[GroupRow, GroupRow]]:
        """Sample id → its earliest and its latest group that the policy was scored on."""
        names = ", ".join(COLUMNS)
        when = "step::HUGEINT * 1000000000000 + place"
        sql = f"""SELECT {names} FROM groups WHERE rowid IN (
                    SELECT unnest([arg_min(rowid, {when}), arg_max(rowid, {when})]) FROM groups
                    WHERE size > 0 AND stage <> 'view' GROUP BY sample_id)
                  ORDER BY step, place"""
        ends: dict[str, tuple[GroupRow, GroupRow]] = {}
        for row in map(_row, self._all(sql)):
            ends[row.sample_id] = (ends[row.sample_id][0], row) if row.sample_id in ends else (row, row)
        return ends

    def group(self, row: GroupRow) -> TraceGroup:
        """The group itself. RunError where the file has changed since it was indexed, or the line is damaged."""
        path = step_path(self._traces, row.step)
        try:
            with path.open("rb") as file:
                file.seek(row.place)
                record = decode(json.loads(file.read(row.extent)))
        except FileNotFoundError:
            raise RunError(
                f"{path.name} is gone: the run was resumed from before step {row.step}. Look for the group again."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path.name}, byte {row.place}: this line is no trace of a group ({type(error).__name__}: {error}). "
                "The file changed or was damaged after it was indexed; look for the group again."
            ) from error
        if not isinstance(record, TraceGroup) or record.sample.id != row.sample_id:
            raise RunError(f"{path.name} has changed since it was indexed. Look for the group again.")
        return record

    def _where(self, find: Find) -> tuple[str, list[Any]]:
        where, values = conditions(find)
        if not find.text:
            return where, values
        with self._lock:
            files = [str(part.texts(self._folder)) for part in self._parts.values()]
        if not files:
            return "false", []
        found = "(step, place) IN (SELECT (step, place) FROM read_parquet(?) WHERE contains(text, ?))"
        return f"({where}) AND {found}", [*values, files, find.text.lower()]

    def _searched(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """`_all` for what may read the files of texts."""
        import duckdb

        try:
            return self._all(sql, values)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            self._forget()
            raise RunError(
                f"a file of the index is damaged ({str(error).splitlines()[0]}). The index is made again from the "
                "traces; search again in a moment."
            ) from error

    def _forget(self) -> None:
        """Empty the table and the list: the next `refresh` makes the index again."""
        forget(self._folder)
        with self._lock:
            self._connection.cursor().execute("DELETE FROM groups")
            self._parts = {}

    def _load(self, parts: Sequence[Part]) -> None:
        """Make the table hold exactly these parts; none where a file of theirs is damaged, which forgets the index."""
        import duckdb

        try:
            self._take(parts)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            self._forget()

    def _take(self, parts: Sequence[Part]) -> None:
        with self._lock:
            wanted = {part.name: part for part in parts}
            gone = [name for name in self._parts if name not in wanted]
            fresh = [part for name, part in wanted.items() if name not in self._parts]
            if not gone and not fresh:
                return
            cursor = self._connection.cursor()
            cursor.execute("BEGIN")
            try:
                if gone:
                    cursor.execute("DELETE FROM groups WHERE list_contains(?, part)", [gone])
                for part in fresh:
                    sql = f"INSERT INTO groups SELECT ?, {', '.join(COLUMNS)} FROM read_parquet(?)"
                    cursor.execute(sql, [part.name, str(part.groups(self._folder))])
                cursor.execute("COMMIT")
            except Exception:
                cursor.execute("ROLLBACK")
                raise
            self._parts = wanted

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.cursor().execute(sql, list(values)).fetchall()
        return rows

    def _one(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        return self._all(sql, values)[0]

    def _names(self, sql: str) -> tuple[str, ...]:
        return tuple(str(name) for (name,) in self._all(sql))


def _row(found: tuple[Any, ...]) -> GroupRow:
    values = dict(zip(COLUMNS, found, strict=True))
    for name, value in values.items():
        if value is None:
            values[name] = math.nan
    values["part_names"] = tuple(values["part_names"])
    values["part_means"] = tuple(math.nan if mean is None else mean for mean in values["part_means"])
    return GroupRow(**values)
