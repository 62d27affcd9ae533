"""Small builds of the generated recipes, made once per test session."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from mmrl.data.manifest import read_manifest
from mmrl.data.recipe import build_recipe
from mmrl.data.recipe_file import known_recipes, load_parts
from mmrl.types import Sample

SIZES = {"train": 400, "validation": 60, "test": 160, "test_hard": 160}
SLOW = {"charts": 0.3, "clips": 0.5, "room": 0.5, "photographs": 0.6}  # of those sizes


def generated_recipes() -> list[str]:
    """The recipes all of whose rows are drawn."""
    return sorted(
        name for name in known_recipes() if all(part.builder.generates for part in load_parts(known_recipes()[name])[1])
    )


@cache
def built(name: str) -> Path:
    """The folder of a small build."""
    folder = Path(mkdtemp(prefix=f"recipe-{name}-")) / name
    settings = [f"n_{split}={round(size * SLOW.get(name, 1))}" for split, size in SIZES.items()]
    build_recipe(name, folder, settings=settings)
    return folder


@cache
def samples(name: str, split: str) -> tuple[Sample, ...]:
    return tuple(read_manifest(built(name) / f"{split}.jsonl"))
