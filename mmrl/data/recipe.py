"""Building a data set from a recipe: rows of a source → split manifests, media files and a lock.

    <out>/train.jsonl, validation.jsonl, …    one manifest per split
    <out>/images/*.png, videos/*.mp4          media that the builder made
    <out>/run.yaml                            the recipe's prompt mode and rewards, for a run's config to extend
    <out>/ATTRIBUTION.md                      whose work the media are, where the source says so
    <out>/media.jsonl                         media that stay where they are: path, size, hash
    <out>/dropped.jsonl                       every row left out, with the reason
    <out>/recipe.lock.json                    what it was built from, what it holds

The same recipe, seed and inputs give the same bytes. The folder appears complete or not at all. Rows stream through the
disk (`staging.py`): a million of them need no more memory than a thousand, but for a few bytes each.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mmrl.atomic import flush_folder, write_atomically
from mmrl.data.lock import LOCK_NAME, check_existing, folder_digests, identity, lock_text, package_versions
from mmrl.data.media_digests import write_media_digests
from mmrl.data.recipe_file import Part, Recipe, load_parts, recipe_identity
from mmrl.data.recipe_filter import Filters
from mmrl.data.samples import examine_row, sample_row
from mmrl.data.source import Source
from mmrl.data.staging import StagedRow, Staging
from mmrl.errors import DataError
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Dropped, Media, Sample

__all__ = ["BuildReport", "build_recipe", "sample_recipe"]

ATTRIBUTION_NAME = "ATTRIBUTION.md"
SETTINGS_NAME = "run.yaml"
_FOLDERS = {"image": "images", "video": "videos"}
_LISTED = 10  # defects that one error message lists


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
    settings: Sequence[str] = (),
    progress: Progress | None = None,
) -> BuildReport:
    """Builds the data set of a recipe (a name such as `digits`, or a path) into `out_dir`.

    Where `out_dir` already holds exactly this data set, nothing is written. Where it holds anything else, a RunError
    says what differs. `seed` replaces the recipe's own; `settings` change its sizes and options (`load_parts`).
    """
    recipe, parts = load_parts(recipe_path, seed=seed, settings=settings)
    out = Path(os.path.abspath(out_dir))
    sources = {part.name: _source(part, parts, recipe) for part in parts}
    revisions = {part.name: part.builder.revision for part in parts}
    inputs = {key: digest for source in sources.values() for key, digest in source.inputs.items()}
    wanted = identity(recipe_identity(recipe), revision=revisions.get("", revisions), inputs=inputs)
    if _occupied(out):
        return _report(out, check_existing(out, wanted), already_there=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in sorted(out.parent.glob(f".{glob.escape(out.name)}.building-*")):
        (progress or SilentProgress()).note(f"{left}: another build is running, or was killed; then remove it.")
    if recipe.unconfirmed:
        (progress or SilentProgress()).note(f"{recipe.name}: not confirmed, so check it: {recipe.unconfirmed}")
    aside = out.parent / f".{out.name}.building-{uuid.uuid4().hex[:8]}"
    try:
        counts, dropped = write_data_set(
            sources,
            aside,
            name=recipe.name,
            shares=recipe.splits,
            seed=recipe.seed,
            filters=recipe.filters,
            weights={part.name: part.weight for part in parts if part.weight and not part.builder.generates},
            total=sum(recipe.splits.values()) if any(part.builder.generates for part in parts) else None,
            weight_sum=sum(part.weight or 1.0 for part in parts),
            progress=progress,
        )
        _write_settings(aside, recipe)
        notices = dict.fromkeys(notice for source in sources.values() for notice in source.notices)
        if notices:
            text = "# Whose work the media are\n\n" + "".join(f"- {notice}\n" for notice in notices)
            write_atomically(aside / ATTRIBUTION_NAME, text.encode())
        packages = dict.fromkeys(package for source in sources.values() for package in source.packages)
        commits = {name: commit for source in sources.values() for name, commit in source.commits.items()}
        lock = wanted | {
            "versions": package_versions(packages),
            "counts": counts,
            "dropped": dropped,
            **({"commits": commits} if commits else {}),
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


def sample_recipe(
    recipe_path: str | os.PathLike[str], out_dir: str | os.PathLike[str], *, rows: int
) -> tuple[Path, int] | None:
    """(manifest of some `rows` training rows in the new `out_dir`, how many the data set will have): a look at a data
    set that is not built yet. None where the recipe reads files of the user's or from the network.

    Raises DataError where no row comes of it: a package is missing, or the recipe's filters leave none.
    """
    recipe, parts = load_parts(recipe_path)
    if not all(part.builder.needs_nothing for part in parts):
        return None
    few = recipe.model_copy(update={"splits": {"train": rows}})
    sources = {part.name: _source(part, parts, few) for part in parts}
    cut = {name: replace(source, rows=islice(source.rows, rows)) for name, source in sources.items()}
    folder = Path(out_dir)
    write_data_set(cut, folder, name=recipe.name, shares={"train": 1}, seed=recipe.seed, filters=recipe.filters)
    return folder / "train.jsonl", int(recipe.splits.get("train", 0))


def write_data_set(
    sources: Source | Mapping[str, Source],
    folder: Path,
    *,
    name: str,
    shares: Mapping[str, float],
    seed: int,
    filters: Filters | None = None,
    weights: Mapping[str, float] | None = None,
    total: float | None = None,
    weight_sum: float | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Writes manifests, media and `dropped.jsonl` into the new `folder`: (samples per split, dropped per reason).

    weights: part → its part of the mixture, where there are several. The scarcest part is used whole and the others
    are cut down to it; with `total`, every part gives its share (of `weight_sum`) of so many rows, if it has them.
    """
    folder.mkdir(parents=True)
    waiting = folder / ".staging"
    waiting.mkdir()
    parts = {"": sources} if isinstance(sources, Source) else sources
    staging = Staging(waiting, seed=seed)
    try:
        for part, source in parts.items():
            _stage(staging, part, source, filters or Filters(), progress or SilentProgress())
        staging.drop_repeated()
        if weights and len(parts) > 1:
            _mix(staging, weights, total, weight_sum or sum(weights.values()))
        if not staging.counts():
            reasons = staging.reasons()
            raise DataError(f"the source of {name!r} gives no row: all {sum(reasons.values())} were dropped {reasons}")
        staging.refuse_unknown_splits(shares)
        staging.drop_straddlers(list(shares))
        staging.deal(shares)
        empty = [split for split in shares if not staging.size(split)]
        if empty:
            raise DataError(
                f"no row of {name!r} is left for split {', '.join(empty)}; left out were {staging.reasons()}. Remove "
                f"the split from the recipe, or give its files"
            )
        counts = {}
        for split in shares:
            counts[split] = _write_split(staging, folder, parts, name=name, split=split)
        bar = progress or SilentProgress()
        write_media_digests(staging.cited(), folder, total=staging.count_cited(), progress=bar)
        with open(folder / "dropped.jsonl", "w", encoding="utf-8") as file:
            for key, reason, detail in staging.dropped():
                file.write(json.dumps({"key": key, "reason": reason, "detail": detail}, ensure_ascii=False) + "\n")
        dropped = staging.reasons()
    finally:
        staging.close()
    shutil.rmtree(waiting)
    return counts, dropped


def _source(part: Part, parts: Sequence[Part], recipe: Recipe) -> Source:
    if not part.builder.generates:
        return part.builder.build(part.options, seed=recipe.seed)
    weights = {other.name: other.weight or 1.0 for other in parts}
    wanted = {split: _portion(int(count), weights, part.name) for split, count in recipe.splits.items()}
    return part.builder.build(part.options, seed=recipe.seed, splits=wanted)


def _portion(count: int, weights: Mapping[str, float], name: str) -> int:
    """Of `count` rows those of one part: shares rounded down, what is left over to the largest remainders."""
    whole = sum(weights.values())
    exact = {part: count * weight / whole for part, weight in weights.items()}
    floors = {part: int(value) for part, value in exact.items()}
    order = sorted(weights, key=lambda part: floors[part] - exact[part])  # a stable sort: ties in the recipe's order
    return floors[name] + (name in order[: count - sum(floors.values())])


def _stage(staging: Staging, part: str, source: Source, filters: Filters, progress: Progress) -> None:
    total = source.total if isinstance(source.total, int) else source.total()
    with progress.task(f"rows of {part}" if part else "rows", total) as task:
        for row in source.rows:
            refused = row if isinstance(row, Dropped) else filters.refusal(row)
            if refused is not None:
                staging.drop(refused, part=part)
            elif not isinstance(row, Dropped):
                staging.add(row, part=part)
            task.advance()


def _mix(staging: Staging, weights: Mapping[str, float], total: float | None, weight_sum: float) -> None:
    held = staging.counts()
    if total is None:
        scale = min(held.get(part, 0) / weight for part, weight in weights.items())
    else:
        scale = total / weight_sum
    for part, weight in weights.items():
        quota = round(scale * weight)
        if held.get(part, 0) > quota:
            staging.keep_share(part, quota)


def _write_split(staging: Staging, folder: Path, parts: Mapping[str, Source], *, name: str, split: str) -> int:
    """Writes the manifest of one split and moves its media; the number of its samples."""
    size = staging.size(split)
    problems: list[str] = []
    with open(folder / f"{split}.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for sample in _samples(staging, folder, parts, name=name, split=split, size=size):
            line = json.dumps(sample_row(sample, root=folder), ensure_ascii=False, allow_nan=False)
            _, defects = examine_row(json.loads(line), root=folder)
            problems += [f"sample {sample.id!r} (row {sample.metadata['key']!r}): {text}" for text in defects]
            if len(problems) >= _LISTED:
                break
            file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if problems:
        raise DataError(f"the source of {name!r} gives rows that are no samples:\n  " + "\n  ".join(problems))
    return size


def _samples(
    staging: Staging, folder: Path, parts: Mapping[str, Source], *, name: str, split: str, size: int
) -> Iterator[Sample]:
    """Gives the rows of one split, already shuffled, their ids and their media their places."""
    width = max(4, len(str(size - 1)))
    for number, row in enumerate(staging.rows(split)):
        id_ = f"{name}-{split}-{number:0{width}d}"
        origin = {"source": row.part} if row.part else {}
        for item in row.media:
            if isinstance(item, Media):
                staging.cite(item, whole=parts[row.part].hash_media)
        yield Sample(
            id=id_,
            task=row.task,
            question=row.question,
            answer=row.answer,
            media=_place(staging, row, id_, folder),
            choices=row.choices,
            metadata={**origin, **row.metadata, "split": split, "key": row.key},
        )


def _place(staging: Staging, row: StagedRow, id_: str, folder: Path) -> tuple[Media, ...]:
    """The media of a row at their final places; a file that several rows share is named after the first."""
    media = []
    several = len(row.media) > 1
    for number, item in enumerate(row.media):
        if isinstance(item, Media):
            media.append(item)
            continue
        name = f"{id_}-{number}{item.suffix}" if several else f"{id_}{item.suffix}"
        path = staging.place(item, folder / _FOLDERS[item.media.type] / name)
        media.append(replace(item.media, path=str(path)))
    return tuple(media)


def _write_settings(folder: Path, recipe: Recipe) -> None:
    """The recipe's prompt mode and rewards as a config that a run's config can extend."""
    import yaml

    settings: dict[str, Any] = {}
    if recipe.prompt is not None:
        settings["prompt"] = recipe.prompt.model_dump()
    if recipe.rewards:
        settings["rewards"] = recipe.rewards
    if settings:
        head = f"# How the samples of {recipe.name!r} are meant to be asked and scored: `extends: {SETTINGS_NAME}`.\n"
        text = head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
        write_atomically(folder / SETTINGS_NAME, text.encode())


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
