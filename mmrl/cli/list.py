"""`mmrl list`: the names a config may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """What can be listed."""

    ALGORITHMS = "algorithms"
    REWARDS = "rewards"
    FAMILIES = "families"
    RECIPES = "recipes"
    MEASURES = "measures"
    RULES = "rules"


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
      mmrl list measures        what `mmrl eval` measures besides the rewards' accuracy
      mmrl list rules           benchmarks by whose own rules `mmrl eval --predictions` scores
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


def _measures() -> Table:
    from mmrl.evaluation.measures import MEASURES

    rows: list[tuple[object, ...]] = [(name, ", ".join(m.answers) or "any", m.summary) for name, m in MEASURES.items()]
    return ("name", "answers", "what it is"), rows


def _rules() -> Table:
    from mmrl.evaluation.benchmarks.catalog import RULES, rules

    known = {name: rules(name) for name in RULES}
    rows: list[tuple[object, ...]] = [
        (name, f"prediction, {', '.join(r.fields)}", r.source, r.summary) for name, r in known.items()
    ]
    return ("name", "fields of a line", "source", "how it scores"), rows


def _families() -> Table:
    from mmrl.policy.families import FAMILIES

    rows: list[tuple[object, ...]] = [
        (name, ", ".join(f.model_types), "packed" if f.packs else "repeated", ", ".join(f.media), f.coordinates)
        for name, f in FAMILIES.items()
    ]
    return ("name", "model_type in config.json", "prompts are", "shown", "boxes and points in"), rows


def _recipes() -> Table:
    from mmrl.config.tree import shown
    from mmrl.data.recipe_file import known_recipes, load_parts

    rows: list[tuple[object, ...]] = []
    for name, path in sorted(known_recipes().items()):
        recipe, parts = load_parts(path)
        drawn = all(part.builder.generates for part in parts)
        rows.append((name, _splits(recipe.splits, drawn=drawn), recipe.description, shown(path)))
    return ("name", "splits", "what it is", "file"), rows


def _splits(splits: Mapping[str, float], *, drawn: bool) -> str:
    """Rows where they are drawn; of rows that are read, each split's part."""
    if drawn:
        return " + ".join(f"{count:,} {split}" for split, count in splits.items())
    return " + ".join(f"{100 * count / sum(splits.values()):.2g} % {split}" for split, count in splits.items())


TABLES: dict[Kind, Callable[[], Table]] = {
    Kind.ALGORITHMS: _algorithms,
    Kind.REWARDS: _rewards,
    Kind.FAMILIES: _families,
    Kind.RECIPES: _recipes,
    Kind.MEASURES: _measures,
    Kind.RULES: _rules,
}
