"""Questions to begin with: of the data the model's run was tested on, and of the generated worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrl.config.schema import Config
from mmrl.data.manifest import read_manifest
from mmrl.data.recipe import build_recipe
from mmrl.data.recipe_file import load_parts
from mmrl.errors import MmrlError
from mmrl.types import Sample

WORLDS = ("scenes", "clips", "room")  # pictures, clips, several pictures; drawn in a second, nothing is downloaded
_PER_WORLD = 6
_OF_RUN = 4
_DRAWN = 12  # rows that a world is asked for, so that its tasks are among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question with media and a known answer."""

    origin: str  # which world, or "the run's data"
    sample: Sample


def examples(folder: Path, *, config: Config | None, run: Path | None) -> list[Example]:
    """One question of each kind. Files that are drawn for it go to `folder`; what cannot be had is left out.

    `config` and `run`: of the run that the model lies in; None where it lies in none.
    """
    found = [Example(origin="the run's data", sample=sample) for sample in _of_run(config, run)]
    for world in WORLDS:
        try:
            found += [Example(origin=world, sample=sample) for sample in _drawn(world, folder / world)]
        except (MmrlError, ImportError, OSError):  # an example less is no reason not to open the page
            continue
    return found


def _drawn(world: str, folder: Path) -> list[Sample]:
    recipe, _ = load_parts(world)
    sizes = [f"n_{split}={_DRAWN if split == 'train' else 1}" for split in recipe.splits]
    return _one_of_each(read_manifest(build_recipe(world, folder, settings=sizes).manifests["train"]), _PER_WORLD)


def _of_run(config: Config | None, run: Path | None) -> list[Sample]:
    if config is None or run is None:
        return []
    named = [config.data.test, config.data.validation, config.data.train]
    paths = [Path(path) for path in named if path is not None]
    paths += [run / "data" / f"{split}.jsonl" for split in ("test", "validation", "train")]
    for path in paths:
        try:
            samples = read_manifest(path)
        except (MmrlError, OSError):
            continue
        if samples:
            return _one_of_each(samples, _OF_RUN)
    return []


def _one_of_each(samples: Sequence[Sample], count: int) -> list[Sample]:
    """The first sample of each task and type of answer, then the next ones."""
    first: dict[tuple[str, str], Sample] = {}
    for sample in samples:
        first.setdefault((sample.task, sample.answer.type), sample)
    chosen = list(first.values())[:count]
    rest = [sample for sample in samples if not any(sample is other for other in chosen)]
    return [*chosen, *rest[: count - len(chosen)]]
