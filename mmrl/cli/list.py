"""`mmrl list`: the names a config may use."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    ALGORITHMS = "algorithms"
    REWARDS = "rewards"
    FAMILIES = "families"
    RECIPES = "recipes"


Table = tuple[tuple[str, ...], list[tuple[object, ...]]]  # head, rows


def list_names(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", show_default=False)],
) -> None:
    """List what a config can name.

    \b
    Examples:
      mmrl list algorithms      `algorithm: NAME`; details with `mmrl explain NAME`
      mmrl list rewards         `rewards: {default: [{name: NAME}]}`
      mmrl list families        the architectures that `model.path` may hold
      mmrl list recipes         the data sets that `data.recipe` and `mmrl data build` know
    """
    from mmrl.cli.console import print_table

    head, rows = TABLES[kind]()
    print_table(head, rows)


def _algorithms() -> Table:
    from mmrl.algorithms.catalog import ALGORITHMS

    rows: list[tuple[object, ...]] = [(name, a.title, f"arXiv:{a.paper}", a.summary) for name, a in ALGORITHMS.items()]
    return ("name", "title", "paper", "what it is"), rows


def _rewards() -> Table:
    from mmrl.rewards.catalog import REWARDS

    rows: list[tuple[object, ...]] = [
        (name, r.kind, f"{r.low:g} … {r.high:g}", ", ".join(r.answers) or "any", r.summary)
        for name, r in REWARDS.items()
    ]
    return ("name", "kind", "range", "answers", "what it measures"), rows


def _families() -> Table:
    from mmrl.policy.families import FAMILIES

    rows: list[tuple[object, ...]] = [
        (name, ", ".join(f.model_types), "packed" if f.packs else "repeated", ", ".join(f.media), f.coordinates)
        for name, f in FAMILIES.items()
    ]
    return ("name", "model_type in config.json", "prompts are", "shown", "boxes and points in"), rows


def _recipes() -> Table:
    from mmrl.config.tree import shown
    from mmrl.data.recipe_file import known_recipes, load_recipe

    found = [(name, path, load_recipe(path)[0]) for name, path in sorted(known_recipes().items())]
    rows: list[tuple[object, ...]] = [
        (name, " + ".join(f"{share:g} {split}" for split, share in recipe.splits.items()), shown(path))
        for name, path, recipe in found
    ]
    return ("name", "splits", "file"), rows


TABLES: dict[Kind, Callable[[], Table]] = {
    Kind.ALGORITHMS: _algorithms,
    Kind.REWARDS: _rewards,
    Kind.FAMILIES: _families,
    Kind.RECIPES: _recipes,
}
