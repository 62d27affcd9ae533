"""Builds of the generated recipes, made once per test session: small ones for every test run, large ones for shares."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrl.data.manifest import read_manifest
from mmrl.data.recipe import build_recipe
from mmrl.data.recipe_file import known_recipes, load_parts
from mmrl.types import Sample

SPLITS = ("train", "validation", "test", "test_hard")
SMALL = (20, 4, 12, 12)  # rows of each split
LARGE = (400, 60, 160, 2)
DEAR = {"charts": 0.4, "clips": 0.5, "photographs": 0.6}  # of those, where a row takes long to draw


def generated_recipes() -> list[str]:
    """The recipes all of whose rows are drawn."""
    return sorted(
        name for name in known_recipes() if all(part.builder.generates for part in load_parts(known_recipes()[name])[1])
    )


@cache
def home() -> TemporaryDirectory[str]:
    """Where the builds of this session lie; `conftest.py` removes it."""
    return TemporaryDirectory(prefix="mmrl-test-recipes-")


@cache
def built(name: str, sizes: tuple[int, ...] = SMALL) -> Path:
    """The folder of a build."""
    folder = Path(home().name) / "-".join(map(str, sizes)) / name
    share = DEAR.get(name, 1.0)
    settings = [f"n_{split}={max(2, round(size * share))}" for split, size in zip(SPLITS, sizes, strict=True)]
    build_recipe(name, folder, settings=settings)
    return folder


@cache
def samples(name: str, split: str, sizes: tuple[int, ...] = SMALL) -> tuple[Sample, ...]:
    return tuple(read_manifest(built(name, sizes) / f"{split}.jsonl"))
