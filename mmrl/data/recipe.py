"""Building a data set from a recipe: rows of a source → split manifests, media files and a lock.

    <out>/train.jsonl, validation.jsonl, …    one manifest per split
    <out>/images/*.png                        media that the builder made
    <out>/dropped.jsonl                       every row left out, with the reason
    <out>/recipe.lock.json                    what it was built from, what it holds

The same recipe, seed and inputs give the same bytes. The folder appears complete or not at all.
"""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.atomic import flush_folder, write_atomically
from mmrl.data.builders.catalog import BUILDERS
from mmrl.data.jsonl import write_json_lines
from mmrl.data.lock import LOCK_NAME, check_existing, folder_digests, identity, lock_text, package_versions
from mmrl.data.manifest import write_manifest
from mmrl.data.recipe_file import load_recipe, recipe_identity
from mmrl.data.source import Source
from mmrl.data.split import assign_splits, connected, shuffle_key
from mmrl.data.staging import StagedRow, drop_repeated, place, stage
from mmrl.errors import DataError
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Dropped, Sample

__all__ = ["BuildReport", "build_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build gave."""

    folder: Path
    name: str  # of the recipe
    seed: int
    counts: Mapping[str, int]  # split → samples
    dropped: Mapping[str, int]  # reason → rows left out
    already_there: bool  # an identical data set was there; nothing was written

    @property
    def manifests(self) -> dict[str, Path]:
        """Split → manifest."""
        return {split: self.folder / f"{split}.jsonl" for split in self.counts}


def build_recipe(
    recipe_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Builds the data set of a recipe (a name such as `digits`, or a path) into `out_dir`.

    Where `out_dir` already holds exactly this data set, nothing is written. Where it holds anything else, a RunError
    says what differs. `seed` replaces the recipe's own.
    """
    recipe, options = load_recipe(recipe_path, seed=seed)
    builder = BUILDERS[recipe.builder]
    out = Path(os.path.abspath(out_dir))
    source = builder.build(options, seed=recipe.seed)
    wanted = identity(recipe_identity(recipe), revision=builder.revision, inputs=source.inputs)
    if _occupied(out):
        return _report(out, check_existing(out, wanted), already_there=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in sorted(out.parent.glob(f".{glob.escape(out.name)}.building-*")):
        (progress or SilentProgress()).note(f"{left}: another build is running, or was killed; then remove it.")
    aside = out.parent / f".{out.name}.building-{uuid.uuid4().hex[:8]}"
    try:
        counts, dropped = write_data_set(
            source, aside, name=recipe.name, shares=recipe.splits, seed=recipe.seed, progress=progress
        )
        lock = wanted | {
            "versions": package_versions(source.packages),
            "counts": counts,
            "dropped": dropped,
            "files": folder_digests(aside),
        }
        write_atomically(aside / LOCK_NAME, lock_text(lock))
        try:
            os.rename(aside, out)
        except OSError:
            if not _occupied(out):
                raise
            return _report(out, check_existing(out, wanted), already_there=True)  # another process was first
        flush_folder(out.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return _report(out, lock, already_there=False)


def write_data_set(
    source: Source,
    folder: Path,
    *,
    name: str,
    shares: Mapping[str, float],
    seed: int,
    progress: Progress | None = None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Writes manifests, media and `dropped.jsonl` into the new `folder`: (samples per split, dropped per reason)."""
    folder.mkdir(parents=True)
    waiting = folder / ".staging"
    waiting.mkdir()
    rows, dropped = stage(source, waiting, progress=progress or SilentProgress())
    rows, repeated = drop_repeated(rows)
    dropped += repeated
    if not rows:
        raise DataError(f"the source of {name!r} gives no row: all {len(dropped)} were dropped {_counted(dropped)}")
    splits = assign_splits(
        [row.key for row in rows],
        [row.stratum for row in rows],
        connected([row.labels for row in rows]),
        shares,
        seed=seed,
    )
    counts = {}
    placed: dict[str, Path] = {}
    for split in shares:
        chosen = sorted(
            (row for row, its in zip(rows, splits, strict=True) if its == split),
            key=lambda row: shuffle_key(f"order\0{row.key}", seed),
        )
        samples = _samples(chosen, folder, name=name, split=split, placed=placed)
        write_manifest(folder / f"{split}.jsonl", samples)
        counts[split] = len(samples)
    lines = [{"key": row.sample_id, "reason": row.reason, "detail": row.detail} for row in dropped]
    write_json_lines(folder / "dropped.jsonl", lines)
    shutil.rmtree(waiting)
    return counts, _counted(dropped)


def _samples(
    rows: Sequence[StagedRow], folder: Path, *, name: str, split: str, placed: dict[str, Path]
) -> list[Sample]:
    """Gives the rows of one split, already shuffled, their ids and their media their places."""
    width = max(4, len(str(len(rows) - 1)))
    samples = []
    for number, row in enumerate(rows):
        id_ = f"{name}-{split}-{number:0{width}d}"
        samples.append(
            Sample(
                id=id_,
                task=row.task,
                question=row.question,
                answer=row.answer,
                media=place(row, id_, folder, placed),
                choices=row.choices,
                metadata={**row.metadata, "split": split, "key": row.key},
            )
        )
    return samples


def _counted(dropped: Sequence[Dropped]) -> dict[str, int]:
    return dict(sorted(Counter(row.reason for row in dropped).items()))


def _occupied(out: Path) -> bool:
    return os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir()))


def _report(out: Path, lock: Mapping[str, Any], *, already_there: bool) -> BuildReport:
    return BuildReport(
        folder=out,
        name=lock["recipe"]["name"],
        seed=lock["recipe"]["seed"],
        counts=dict(lock["counts"]),
        dropped=dict(lock["dropped"]),
        already_there=already_there,
    )
