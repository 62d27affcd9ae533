"""Writes docs/data_recipes.md from the recipes and their builders: `python tools/write_recipes_page.py`.

An entry is what the recipe says of itself, its tasks with their rewards, the builder's or the format's docstring, its
options, and, where the rows are generated, questions as they come out of it.
"""

import inspect
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from mmrl.data.builders.catalog import BUILDERS
from mmrl.data.builders.converted import ConvertedOptions
from mmrl.data.formats.catalog import FORMATS
from mmrl.data.recipe_file import Part, Recipe, known_recipes, load_parts
from mmrl.data.source import Draft

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "data_recipes.md"
EXAMPLES = 10  # rows of a world from which one of each kind is shown
INTRODUCTION = """\
<!-- Written by tools/write_recipes_page.py from the recipes; do not edit by hand. -->
# Recipes

A recipe is a YAML file in `data_recipes/`: sources, how they are mixed, filtered and split, how the questions are meant
to be asked and how answers are scored. What it means and writes: [data.md](data.md#recipes).

```bash
mmrl list recipes
mmrl data build scenes --out data/scenes                                   # as the recipe says
mmrl data build scenes --out data/scenes --set n_train=500 --set size=224  # other sizes
mmrl data build refcoco --out data/refcoco --set root=vlm-r1               # files that you have
```

`--set n_SPLIT=…` says how many rows (or which share), `--set OPTION=…` sets an option of the builder, and of one of
several sources `--set SOURCE.OPTION=…` or `--set SOURCE.weight=…`. The built folder holds `run.yaml`, the recipe's
prompt mode and rewards, which a run's config can extend.

**Generated worlds** need nothing but the libraries. The same seed gives the same bytes with the same versions of the
libraries that draw and encode, which `recipe.lock.json` names (clips: `metadata.pictures_sha256` is of the pictures
before encoding, and does not depend on the encoder). What is to be balanced is dealt, so that no option, number or
direction is right more often than others; no picture is in two splits; `test_hard` is drawn harder. Tests hold every
recipe to that, and to: the gold answer earns everything, a wrong one does not, and the words alone find no more than a
guess. To try a recipe of training with a tiny model (`model: {tiny: {}}`), take `digits`, `signs` without `number`, or
of `clips` the kind `change` with `one_order`: these it learns in minutes, as [the claims](claims.md) do; the other
worlds want a pretrained model.

**Public data sets** are read from files that you have fetched, or by their hub name through `datasets`. Rows that
cannot be asked are left out with file, row and reason (`dropped.jsonl`); so are rows whose media are missing
(`--set missing_media=true` keeps them) and training rows whose picture or clip a test split shows as well.
"""


def page() -> str:
    """What docs/data_recipes.md should hold."""
    recipes = {name: load_parts(path) for name, path in sorted(known_recipes().items())}
    generated = {name: found for name, found in recipes.items() if all(part.builder.generates for part in found[1])}
    others = {name: found for name, found in recipes.items() if name not in generated}
    pieces = [INTRODUCTION, _table("Generated worlds", generated), _table("Data sets", others)]
    pieces += [_entry(name, *found) for name, found in [*generated.items(), *others.items()]]
    return "\n".join(pieces)


def _table(title: str, recipes: dict[str, tuple[Recipe, list[Part]]]) -> str:
    rows = [f"| [`{name}`](#{name}) | {recipe.description} |" for name, (recipe, _) in recipes.items()]
    return "\n".join([f"## {title}\n", "| recipe | what |", "|---|---|", *rows, ""])


def _entry(name: str, recipe: Recipe, parts: list[Part]) -> str:
    splits = ", ".join(f"{split} {share:g}" for split, share in recipe.splits.items())
    lines = [f"### {name}\n", recipe.description, ""]
    if recipe.source:
        lines += [f"Source: {recipe.source}.", ""]
    if recipe.unconfirmed:
        lines += [f"**Not confirmed**, so check it: {recipe.unconfirmed}.", ""]
    lines += ["```bash", *_commands(known_recipes()[name]), "```", "", f"Splits: {splits}.", ""]
    if recipe.rewards:
        lines += ["| task | rewards |", "|---|---|"]
        lines += [f"| `{task}` | {', '.join(map(_reward, uses))} |" for task, uses in recipe.rewards.items()]
        lines.append("")
    seen: set[str] = set()
    for part in parts:
        told, module = _documentation(part)
        if module not in seen:
            lines += [f"```text\n{told.strip()}\n```", ""]
            seen.add(module)
    if all(part.builder.generates for part in parts):
        lines += [_options(parts[0]), "Questions:", "", *_questions(parts, recipe.seed), ""]
    return "\n".join(lines)


def _commands(path: Path) -> list[str]:
    head = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return [line if line.startswith(("mmrl", "--")) else f"# {line}" for line in head]


def _reward(use: dict[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in use.get("options", {}).items())
    return f"`{use['name']}` × {use.get('weight', 1.0):g}" + (f" ({options})" if options else "")


def _documentation(part: Part) -> tuple[str, str]:
    """(docstring, module) of what knows most about the rows: the format, or else the builder."""
    options = part.options
    function = FORMATS[options.format] if isinstance(options, ConvertedOptions) else part.builder.build
    module = inspect.getmodule(function)
    assert module is not None
    return inspect.getdoc(import_module(module.__name__)) or "", module.__name__


def _options(part: Part) -> str:
    rows = [
        f"| `{key}` | {_plain(field.get_default(call_default_factory=True))} | {field.description or ''} |"
        for key, field in part.builder.options.model_fields.items()
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows, ""])


def _plain(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _questions(parts: list[Part], seed: int) -> list[str]:
    lines = []
    for part in parts:
        shown: set[str] = set()
        for draft in part.builder.build(part.options, seed=seed, splits={"train": EXAMPLES}).rows:
            assert isinstance(draft, Draft)
            kind = f"{draft.task} {draft.metadata.get('kind', draft.metadata.get('question_type', ''))}"
            if kind not in shown:
                shown.add(kind)
                options = f" ({', '.join(draft.choices)})" if draft.choices else ""
                lines.append(f"- {draft.question}{options} → `{json.dumps(draft.answer.value, ensure_ascii=False)}`")
    return lines


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {len(known_recipes())} recipes, {len(BUILDERS)} builders", file=sys.stderr)


if __name__ == "__main__":
    main()
