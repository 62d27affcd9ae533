"""Rows on their way from a source into a data set, on the disk: memory does not grow with their content.

    add, drop         a row as the source gives it; its new media files are written at once, told apart by content
    drop_repeated     exact repetitions and contradictions leave
    keep_share        a source that gave more than its part of the mixture is cut down
    drop_straddlers   rows whose media a later split shows as well leave, where the source itself names the splits
    deal              the other rows get their splits: stratified, and never the same media on two sides
    rows, dropped     what is left, split by split in shuffled order, and what left, with the reason
    cite, cited       the media files that are left where they are

The rows lie in an SQLite file beside the data set. In memory: 16 bytes a row while splits are dealt, SQLite's cache
(16 MiB) and as much again for what it sorts.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.data.answers import answer_row, parse_answer
from mmrl.data.source import Draft, NewFile
from mmrl.data.split import Dealer, shuffle_key
from mmrl.errors import DataError
from mmrl.types import Answer, Dropped, Media

_SHAPE = ("start", "end", "fps", "max_frames")  # of a media item, beside type and path
_TABLES = """
CREATE TABLE rows (n INTEGER PRIMARY KEY, key TEXT UNIQUE, part TEXT, stratum TEXT, identity BLOB, answer TEXT,
                   deal_key TEXT, order_key TEXT, split TEXT, unit INTEGER, alive INTEGER DEFAULT 1, body TEXT);
CREATE TABLE labels (label BLOB, n INTEGER);
CREATE TABLE placed (digest TEXT PRIMARY KEY, path TEXT);
CREATE TABLE cited (path TEXT PRIMARY KEY, whole INTEGER) WITHOUT ROWID;
CREATE TABLE dropped (key TEXT, reason TEXT, detail TEXT);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A new media file that waits for its final name."""

    digest: str  # SHA-256 of its content
    waiting: Path
    suffix: str
    media: Media  # without a path


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRow:
    """A row whose split is known."""

    key: str
    part: str  # the name of its source in the recipe; empty where there is only one
    task: str
    question: str
    answer: Answer
    choices: tuple[str, ...]
    media: tuple[StagedFile | Media, ...]
    metadata: Mapping[str, Any]


class Staging:
    """The rows of one build. `folder` must be empty; the caller removes it."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._base = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA cache_size = -16384")
        self._base.executescript(_TABLES)
        self._base.execute("BEGIN")
        self._count = 0

    def close(self) -> None:
        self._base.close()

    def add(self, draft: Draft, *, part: str = "") -> None:
        """Stages a row and writes its new files."""
        key = f"{part}:{draft.key}" if part else draft.key
        media = [self._item(item) for item in draft.media]
        names = [name for item in media for name in ([item["digest"]] if "digest" in item else item["files"])]
        same = json.dumps([draft.question, draft.choices, names], ensure_ascii=False)
        try:
            body = json.dumps(
                {
                    "task": draft.task,
                    "question": draft.question,
                    "choices": draft.choices,
                    "media": media,
                    "metadata": draft.metadata,
                },
                ensure_ascii=False,
                allow_nan=False,
            )
            answer = json.dumps(answer_row(draft.answer), ensure_ascii=False, allow_nan=False)
            body.encode("utf-8")
        except (TypeError, ValueError) as error:
            raise DataError(f"row {key!r} of the source cannot be written as JSON: {error}") from None
        values = (
            self._count,
            key,
            part,
            draft.stratum,
            _digest(same),
            answer,
            shuffle_key(key, self._seed),
            shuffle_key(f"order\0{key}", self._seed),
            draft.split,
            body,
        )
        try:
            self._base.execute(
                "INSERT INTO rows (n, key, part, stratum, identity, answer, deal_key, order_key, split, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        except sqlite3.IntegrityError:
            raise DataError(f"the source gives two rows the key {key!r}; a builder's keys must be unique") from None
        labels = [_digest(f"media\0{name}") for name in dict.fromkeys(names)]
        if draft.group is not None:
            labels.append(_digest(f"group\0{part}\0{draft.group}"))
        self._base.executemany("INSERT INTO labels VALUES (?, ?)", [(label, self._count) for label in labels])
        self._count += 1

    def drop(self, row: Dropped, *, part: str = "") -> None:
        """Notes a row that the source, or a filter, left out."""
        key = f"{part}:{row.sample_id}" if part else row.sample_id
        self._base.execute("INSERT INTO dropped VALUES (?, ?, ?)", (key, row.reason, row.detail))

    def drop_repeated(self) -> None:
        """Of rows that ask the same of the same media the first stays if all answers agree, none if they do not."""
        self._base.execute("CREATE INDEX same ON rows (identity, n)")
        groups = self._base.execute(
            "SELECT identity, MIN(n) FROM rows GROUP BY identity HAVING COUNT(*) > 1 ORDER BY MIN(n)"
        ).fetchall()
        for identity, _ in groups:
            alike = self._base.execute(
                "SELECT n, key, answer FROM rows WHERE identity = ? ORDER BY n", (identity,)
            ).fetchall()
            if len({answer for _, _, answer in alike}) == 1:
                why = ("duplicate", f"same question, media and answer as {alike[0][1]}")
                self._leave([(n, key, *why) for n, key, _ in alike[1:]])
            else:
                keys = ", ".join(key for _, key, _ in alike[:10]) + (" …" if len(alike) > 10 else "")
                why = ("contradictory answers", f"same question and media, other answers: {keys}")
                self._leave([(n, key, *why) for n, key, _ in alike])

    def counts(self) -> dict[str, int]:
        """Part → rows that are left."""
        found = self._base.execute("SELECT part, COUNT(*) FROM rows WHERE alive GROUP BY part")
        return {str(part): int(count) for part, count in found}

    def keep_share(self, part: str, quota: int) -> None:
        """Leaves `quota` rows of a part, drawn by the seed."""
        beyond = self._base.execute(
            "SELECT n, key FROM rows WHERE alive AND part = ? ORDER BY deal_key LIMIT -1 OFFSET ?", (part, quota)
        ).fetchall()
        detail = f"the recipe's weights leave {quota} rows of {part}"
        self._leave([(n, key, "beyond its share of the mixture", detail) for n, key in beyond])

    def refuse_unknown_splits(self, known: Collection[str]) -> None:
        """A DataError where a row was given a split that is none of `known`: it would be lost."""
        for (split,) in self._base.execute("SELECT DISTINCT split FROM rows WHERE split IS NOT NULL").fetchall():
            if split not in known:
                raise DataError(f"the source gives rows for the split {split!r}; `splits` names {', '.join(known)}")

    def drop_straddlers(self, splits: list[str]) -> None:
        """Where a source names the splits itself: rows whose media or group a later one of `splits` has too leave."""
        self._index_labels()
        rank = "CASE rows.split " + " ".join(f"WHEN '{name}' THEN {i}" for i, name in enumerate(splits)) + " END"
        shared = self._base.execute(
            f"SELECT label, MAX({rank}) FROM labels JOIN rows USING (n) WHERE alive AND split IS NOT NULL "
            "GROUP BY label HAVING COUNT(DISTINCT split) > 1"
        ).fetchall()
        for label, last in shared:
            detail = f"shares media or a group with a row of {splits[last]}"
            leaving = self._base.execute(
                "SELECT n, key FROM labels JOIN rows USING (n) WHERE label = ? AND alive AND split <> ? ORDER BY n",
                (label, splits[last]),
            ).fetchall()
            self._leave([(n, key, "shown in another split", detail) for n, key in leaving])

    def deal(self, shares: Mapping[str, float]) -> None:
        """Gives every row without a split its split, as `split.assign_splits` does."""
        if not self._base.execute("SELECT 1 FROM rows WHERE alive AND split IS NULL LIMIT 1").fetchone():
            return
        self._index_labels()
        parent = self._units()
        self._base.executemany(
            "UPDATE rows SET unit = ? WHERE n = ?", ((_root(parent, n), n) for n in range(self._count))
        )
        self._base.execute("CREATE TABLE dealt (unit INTEGER PRIMARY KEY, split TEXT)")
        self._base.execute(
            "CREATE TABLE units AS SELECT unit, COUNT(*) AS size FROM rows WHERE alive AND split IS NULL GROUP BY unit"
        )
        dealer, units = Dealer(shares), 0
        turns = self._base.execute(
            "SELECT units.unit, size FROM units JOIN rows ON rows.n = units.unit ORDER BY stratum, -size, deal_key"
        )
        dealt = self._base.cursor()
        for unit, size in turns:
            dealt.execute("INSERT INTO dealt VALUES (?, ?)", (unit, dealer.give(size)))
            units += 1
        dealer.refuse_empty(units=units)
        self._base.execute(
            "UPDATE rows SET split = (SELECT split FROM dealt WHERE dealt.unit = rows.unit) "
            "WHERE alive AND split IS NULL"
        )

    def size(self, split: str) -> int:
        return int(self._base.execute("SELECT COUNT(*) FROM rows WHERE alive AND split = ?", (split,)).fetchone()[0])

    def rows(self, split: str) -> Iterator[StagedRow]:
        """The rows of a split, shuffled."""
        found = self._base.execute(
            "SELECT key, part, answer, body FROM rows WHERE alive AND split = ? ORDER BY order_key", (split,)
        )
        for key, part, answer, body in found:
            fields = json.loads(body)
            yield StagedRow(
                key=key,
                part=part,
                task=fields["task"],
                question=fields["question"],
                answer=_answer(json.loads(answer), key),
                choices=tuple(fields["choices"]),
                media=tuple(self._staged(item) for item in fields["media"]),
                metadata=fields["metadata"],
            )

    def place(self, item: StagedFile, path: Path) -> Path:
        """Moves a waiting file to `path`; where it was moved before, for another row, the place it has."""
        there = self._base.execute("SELECT path FROM placed WHERE digest = ?", (item.digest,)).fetchone()
        if there is not None:
            return Path(there[0])
        path.parent.mkdir(exist_ok=True)
        item.waiting.rename(path)
        self._base.execute("INSERT INTO placed VALUES (?, ?)", (item.digest, str(path)))
        return path

    def cite(self, media: Media, *, whole: bool) -> None:
        """Notes the files of a medium that stays where it is. whole: their content is to be hashed."""
        paths = list(media.paths) if media.path is None else [media.path]
        self._base.executemany(
            "INSERT INTO cited VALUES (?, ?) ON CONFLICT DO UPDATE SET whole = MAX(whole, excluded.whole)",
            [(path, whole) for path in paths],
        )

    def count_cited(self) -> int:
        return int(self._base.execute("SELECT COUNT(*) FROM cited").fetchone()[0])

    def cited(self) -> Iterator[tuple[str, bool]]:
        """(path, whether its content is to be hashed) of every noted file, by path."""
        for path, whole in self._base.execute("SELECT path, whole FROM cited ORDER BY path"):
            yield str(path), bool(whole)

    def dropped(self) -> Iterator[tuple[str, str, str]]:
        """(key, reason, detail) of every row that left, in the order in which they did."""
        yield from self._base.execute("SELECT key, reason, detail FROM dropped ORDER BY rowid")

    def reasons(self) -> dict[str, int]:
        found = self._base.execute("SELECT reason, COUNT(*) FROM dropped GROUP BY reason ORDER BY reason")
        return {str(reason): int(count) for reason, count in found}

    def _leave(self, rows: list[tuple[int, str, str, str]]) -> None:
        self._base.executemany("UPDATE rows SET alive = 0 WHERE n = ?", [(n,) for n, *_ in rows])
        self._base.executemany("INSERT INTO dropped VALUES (?, ?, ?)", [row[1:] for row in rows])

    def _index_labels(self) -> None:
        self._base.execute("CREATE INDEX IF NOT EXISTS by_label ON labels (label, n)")

    def _units(self) -> array[int]:
        """Rows that share a label, directly or through others, get one root: the first of them."""
        parent = array("q", range(self._count))
        last_label, first = b"", 0
        linked = self._base.execute(
            "SELECT label, n FROM labels JOIN rows USING (n) WHERE alive AND split IS NULL ORDER BY label, n"
        )
        for label, n in linked:
            if label != last_label:
                last_label, first = label, n
                continue
            a, b = _root(parent, first), _root(parent, n)
            parent[max(a, b)] = min(a, b)
        return parent

    def _item(self, item: NewFile | Media) -> dict[str, Any]:
        if isinstance(item, Media):
            shape = {key: value for key in _SHAPE if (value := getattr(item, key)) is not None}
            files = list(item.paths) if item.path is None else [item.path]
            return {"type": item.type, "files": files, **shape}
        digest = hashlib.sha256(item.content).hexdigest()
        path = self._waiting(digest)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(item.content)
        return {"type": item.type, "digest": digest, "suffix": item.suffix, **item.options}

    def _staged(self, item: dict[str, Any]) -> StagedFile | Media:
        shape = {key: item[key] for key in _SHAPE if key in item}
        if "digest" in item:
            return StagedFile(
                digest=item["digest"],
                waiting=self._waiting(item["digest"]),
                suffix=item["suffix"],
                media=Media(type=item["type"], **shape),
            )
        if item["type"] == "frames":
            return Media(type="frames", paths=tuple(item["files"]), **shape)
        return Media(type=item["type"], path=item["files"][0], **shape)

    def _waiting(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


def _answer(row: Any, key: str) -> Answer:
    return parse_answer(row, where=f"row {key!r} of the source")


def _root(parent: array[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
