"""Rows on their way from a source into a data set: media are written at once, so that memory holds none of them.

stage           source → rows, their new files in a waiting folder, told apart by content
drop_repeated   without exact repetitions and without contradictions
place           moves the files of a row to their final names
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.data.answers import answer_row
from mmrl.data.source import Draft, NewFile, Source
from mmrl.errors import DataError
from mmrl.progress import Progress
from mmrl.types import Answer, Dropped, Media

FOLDERS = {"image": "images", "video": "videos"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A new media file that waits for its final name."""

    digest: str  # SHA-256 of its content
    waiting: Path
    suffix: str
    media: Media  # without a path


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRow:
    """A draft whose new files are on the disk."""

    key: str
    task: str
    question: str
    answer: Answer
    choices: tuple[str, ...]
    media: tuple[StagedFile | Media, ...]
    stratum: str
    group: str | None
    metadata: Mapping[str, Any]

    @property
    def labels(self) -> list[Hashable]:
        """Rows that share one of these must stay in one split."""
        labels: list[Hashable] = [("media", name) for name in self.media_names]
        return labels if self.group is None else [*labels, ("group", self.group)]

    @property
    def media_names(self) -> list[str]:
        names: list[str] = []
        for item in self.media:
            if isinstance(item, StagedFile):
                names.append(item.digest)
            else:
                names += [item.path] if item.path is not None else item.paths
        return names


def stage(source: Source, waiting: Path, *, progress: Progress) -> tuple[list[StagedRow], list[Dropped]]:
    """(rows, rows that the builder left out)."""
    rows: list[StagedRow] = []
    dropped: list[Dropped] = []
    keys: set[str] = set()
    with progress.task("rows", source.total) as task:
        for row in source.rows:
            if isinstance(row, Dropped):
                dropped.append(row)
            else:
                if row.key in keys:
                    raise DataError(f"the source gives two rows the key {row.key!r}; a builder's keys must be unique")
                keys.add(row.key)
                rows.append(_staged(row, waiting))
            task.advance()
    return rows, dropped


def drop_repeated(rows: Sequence[StagedRow]) -> tuple[list[StagedRow], list[Dropped]]:
    """Rows that ask the same of the same media: the first stays if all answers agree, none if they do not."""
    alike: dict[Hashable, list[StagedRow]] = defaultdict(list)
    for row in rows:
        alike[(row.question, row.choices, tuple(row.media_names))].append(row)
    kept: list[StagedRow] = []
    dropped: list[Dropped] = []
    for same in alike.values():
        first = same[0]
        if len({json.dumps(answer_row(row.answer)) for row in same}) == 1:
            kept.append(first)
            reason, detail, left_out = "duplicate", f"same question, media and answer as {first.key}", same[1:]
        else:
            keys = ", ".join(row.key for row in same)
            reason, detail, left_out = "contradictory answers", f"same question and media, other answers: {keys}", same
        dropped += [Dropped(sample_id=row.key, stage="filter", reason=reason, detail=detail) for row in left_out]
    return kept, dropped


def place(row: StagedRow, id_: str, folder: Path, placed: dict[str, Path]) -> tuple[Media, ...]:
    """The media of a row at their final places; a file that several rows share is named after the first.

    `placed` (digest → final path) goes from call to call and grows.
    """
    media = []
    several = len(row.media) > 1
    for number, item in enumerate(row.media):
        if isinstance(item, Media):
            media.append(item)
            continue
        path = placed.get(item.digest)
        if path is None:
            name = f"{id_}-{number}{item.suffix}" if several else f"{id_}{item.suffix}"
            path = placed[item.digest] = folder / FOLDERS[item.media.type] / name
            path.parent.mkdir(exist_ok=True)
            os.rename(item.waiting, path)
        shape = item.media
        media.append(
            Media(
                type=shape.type,
                path=str(path),
                start=shape.start,
                end=shape.end,
                fps=shape.fps,
                max_frames=shape.max_frames,
            )
        )
    return tuple(media)


def _staged(draft: Draft, waiting: Path) -> StagedRow:
    return StagedRow(
        key=draft.key,
        task=draft.task,
        question=draft.question,
        answer=draft.answer,
        choices=draft.choices,
        media=tuple(_staged_file(item, waiting) if isinstance(item, NewFile) else item for item in draft.media),
        stratum=draft.stratum,
        group=draft.group,
        metadata=draft.metadata,
    )


def _staged_file(file: NewFile, waiting: Path) -> StagedFile:
    digest = hashlib.sha256(file.content).hexdigest()
    path = waiting / digest
    if not path.exists():
        path.write_bytes(file.content)
    return StagedFile(
        digest=digest, waiting=path, suffix=file.suffix, media=Media(type=file.type, **dict(file.options))
    )
