"""Public data sets from files that the user has, or by their hub name, in one of the formats of `mmrl data convert`.

    builder: converted
    options:
      format: vlm-r1                                    # formats/catalog.py
      root: data/refcoco                                # the folder; annotations and media are below it
      files: {train: [rec/refcoco_train.jsonl], test: [rec/refcoco_val.jsonl]}
      media: coco                                       # where the rows' paths start, below root

`files` as a list leaves the splits to the recipe's shares; as a mapping it names them. Instead of `files`, `hub` names
a data set for `datasets.load_dataset` (or a local folder in one of its layouts) and says which of its splits is which.
Pictures that the rows hold themselves are written into the built folder; others stay where they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmrl.data.convert import examined, foreign_rows
from mmrl.data.formats.catalog import FORMATS
from mmrl.data.formats.row import ManifestRow, Unfit
from mmrl.data.lock import file_digest
from mmrl.data.media_paths import media_paths
from mmrl.data.readers.files import count_rows, read_rows
from mmrl.data.readers.tables import hub_card, hub_rows
from mmrl.data.source import Draft, NewFile, Source
from mmrl.errors import DataError, unknown_name
from mmrl.types import Dropped, Sample


class HubOptions(BaseModel):
    """A data set of the hub, or a local folder in one of the layouts that `datasets` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="OWNER/NAME, or a folder")
    config: str | None = Field(None, description="its configuration, where it has several")
    revision: str | None = Field(None, description="branch, tag or commit; name a commit to build the same again")
    splits: dict[str, str] = Field({"train": "train"}, min_length=1, description="our split → its split")


class ConvertedOptions(BaseModel):
    """Options of the builder `converted`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = Field(description="a name of the format table")
    root: str = Field(".", description="the folder that files and media are below")
    files: list[str] | dict[str, list[str]] = Field(
        default_factory=list, description="annotation files (or folders) below root, patterns allowed; per split or not"
    )
    hub: HubOptions | None = Field(None, description="instead of files")
    media: str = Field(".", description="where the rows' media paths start, below root")
    beside_files: bool = Field(False, description="media paths start in the folder of each annotation file instead")
    missing_media: bool = Field(False, description="keep rows whose media files are not there; else they are dropped")
    columns: dict[str, str] = Field(default_factory=dict, description="our name of a column → the table's")
    constants: dict[str, Any] = Field(default_factory=dict, description="columns that the table does not have")
    task: str | None = Field(None, description="the task of all rows, instead of the format's")
    group: str | None = Field(None, description="a metadata key: rows with an equal value stay in one split")
    limit: int | None = Field(None, ge=1, description="only the first so many rows of each file")
    media_hashes: Literal["content", "size"] = Field(
        "content", description="what media.jsonl records of media that stay where they are; size: where reading is dear"
    )
    licence: str = Field("", description="whose work it is and under which licence; goes into ATTRIBUTION.md")

    @model_validator(mode="after")
    def _one_origin(self) -> ConvertedOptions:
        if self.format not in FORMATS:
            raise ValueError(f"format: {unknown_name('format', self.format, FORMATS)}")
        if bool(self.files) == (self.hub is not None):
            raise ValueError("give files or hub, one of them: where the rows come from")
        return self


def build_converted(options: ConvertedOptions, *, seed: int) -> Source:
    """The rows of all files, in their order; nothing about them is random."""
    root = Path(os.path.abspath(options.root))
    if options.hub is not None:
        hub = options.hub
        folder = Path(hub.name)
        inputs = {str(path.relative_to(folder)): file_digest(path) for path in _annotations(folder)}
        by_name = {f"hub:{hub.name}": f"revision {hub.revision or 'newest'}"}
        commits: dict[str, str] = {}
        return Source(
            rows=_hub(options, hub, root, None if inputs else commits),
            total=lambda: _hub_length(hub),
            inputs=inputs or by_name,
            commits=commits,
            hash_media=options.media_hashes == "content",
            packages=("datasets", "pyarrow"),
            notices=(options.licence,) if options.licence else (),
        )
    if not root.is_dir():
        raise DataError(
            f"the folder {options.root} does not exist. Fetch the data set, then say where it is: --set root=FOLDER"
        )
    files = [(split, path) for split, patterns in _patterns(options) for path in _found(root, patterns)]
    return Source(
        rows=(row for split, path in files for row in _file(options, root, split, path)),
        total=sum(min(count_rows(path), options.limit or 1 << 60) for _, path in files),
        inputs={path.relative_to(root).as_posix(): _digest(path) for _, path in files},
        hash_media=options.media_hashes == "content",
        notices=(options.licence,) if options.licence else (),
    )


def _patterns(options: ConvertedOptions) -> list[tuple[str | None, list[str]]]:
    if isinstance(options.files, dict):
        return list(options.files.items())
    return [(None, options.files)]


def _found(root: Path, patterns: list[str]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        paths = sorted(root.glob(pattern)) if any(sign in pattern for sign in "*?[") else [root / pattern]
        missing = [path for path in paths if not path.exists()]
        if missing or not paths:
            raise DataError(
                f"{root / pattern} does not exist. Fetch that file, name the files you have in the recipe's `files`, "
                f"or say where the data set is: --set root=FOLDER"
            )
        found += [path for path in paths if path not in found]
    return found


def _annotations(folder: Path) -> list[Path]:
    """What of a folder says what its rows are; media are not hashed."""
    suffixes = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".tar")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes) if folder.is_dir() else []


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the content of its tables and the names and sizes of everything else."""
    if path.is_file():
        return file_digest(path)
    tables = set(_annotations(path))
    whole = hashlib.sha256()
    for inner in sorted(inner for inner in path.rglob("*") if inner.is_file()):
        known = file_digest(inner) if inner in tables else str(inner.stat().st_size)
        whole.update(f"{inner.relative_to(path).as_posix()}\0{known}\n".encode())
    return whole.hexdigest()


def _file(options: ConvertedOptions, root: Path, split: str | None, path: Path) -> Iterator[Draft | Dropped]:
    media = path.parent if options.beside_files else root / options.media
    if path.is_dir() and options.media == ".":
        media = path  # the names in a folder of pictures start there
    yield from _drafts(options, read_rows(path), path.relative_to(root).as_posix(), split, media)


def _hub_length(hub: HubOptions) -> int:
    rows = hub_card(hub.name, hub.config, hub.revision).rows
    return sum(rows.get(theirs, 0) for theirs in hub.splits.values())


def _hub(
    options: ConvertedOptions, hub: HubOptions, root: Path, commits: dict[str, str] | None
) -> Iterator[Draft | Dropped]:
    """commits: where to note the commit whose rows are read; None: the data set is a local folder."""
    revision = hub.revision
    if commits is not None and (commit := hub_card(hub.name, hub.config, hub.revision).commit):
        revision = commits[hub.name] = commit  # all splits from one commit, whatever is pushed meanwhile
    for split, theirs in hub.splits.items():
        rows = hub_rows(hub.name, config=hub.config, split=theirs, revision=revision)
        yield from _drafts(options, rows, theirs, split if len(hub.splits) > 1 else None, root / options.media)


def _drafts(
    options: ConvertedOptions, rows: Iterator[tuple[int, Any]], where: str, split: str | None, media: Path
) -> Iterator[Draft | Dropped]:
    if options.limit is not None:
        rows = (pair for _, pair in zip(range(options.limit), rows, strict=False))
    known: dict[str, bool] = {}
    for number, made in foreign_rows(rows, options.format, columns=options.columns, constants=options.constants):
        key = f"{where}:{number}"
        try:
            if isinstance(made, Unfit):
                raise made
            sample = examined(made, root=media)
            if not options.missing_media:
                _require_files(made, sample, known)
            yield _draft(options, key, split, made, sample)
        except Unfit as why:
            yield Dropped(sample_id=key, stage="filter", reason=why.reason, detail=str(why))


def _require_files(made: ManifestRow, sample: Sample, known: dict[str, bool]) -> None:
    held = {id(item): item for item in made.get("media", ()) if "content" in item}
    if held:
        return
    for path in media_paths(sample):
        if path not in known:
            if len(known) > 1 << 16:  # rows that share a file follow each other; the rest may be asked again
                known.clear()
            known[path] = os.path.isfile(path)
        if not known[path]:
            raise Unfit("missing media", f"{path} does not exist; fetch it, or correct `root` and `media`")


def _draft(options: ConvertedOptions, key: str, split: str | None, made: ManifestRow, sample: Sample) -> Draft:
    media = tuple(
        NewFile(type=given["type"], content=given["content"], suffix=given["suffix"]) if "content" in given else item
        for given, item in zip(made.get("media", ()), sample.media, strict=True)
    )
    group = None
    if options.group is not None:
        if sample.metadata.get(options.group) is None:
            raise Unfit(f"no {options.group}", f"the recipe groups by metadata {options.group!r}, and the row has none")
        group = str(sample.metadata[options.group])
    letter = sample.answer.value if sample.answer.type == "choice" else ""
    task = options.task or sample.task
    return Draft(
        key=key,
        task=task,
        question=sample.question,
        answer=sample.answer,
        choices=sample.choices,
        media=media,
        stratum=f"{task}\0{sample.answer.type}\0{letter}",
        group=group,
        split=split,
        metadata={**sample.metadata, "original_id": sample.id},
    )
