"""The recipe file: which builder makes a data set, with which options, and how its rows are split.

name: digits
builder: digits                                       # one of builders/catalog.py
seed: 0
splits: {train: 1300, validation: 200, test: 297}     # shares; divided by their sum
options: {size: 56}                                   # the builder's own
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmrl.data.builders.catalog import BUILDERS
from mmrl.errors import ConfigError, unknown_name

_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
_SUFFIXES = (".yaml", ".yml")


class Recipe(BaseModel):
    """A recipe as it is written; `options` are checked by the builder's own class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Word = Field(description="begins every sample id")
    builder: str = Field(description="a name of the builder table")
    description: str = ""
    source: str = Field("", description="where the rows come from and whose work they are")
    seed: int = Field(0, ge=0)
    splits: dict[_Word, Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        description="split → share; shares are divided by their sum", min_length=1
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the builder")


def load_recipe(name_or_path: str | os.PathLike[str], *, seed: int | None = None) -> tuple[Recipe, BaseModel]:
    """(recipe, its builder's options), completely checked; `seed` replaces the recipe's."""
    path = find_recipe(name_or_path)
    fields = _read_yaml(path)
    try:
        recipe = Recipe.model_validate(fields if seed is None else {**fields, "seed": seed})
    except ValidationError as error:
        raise ConfigError(_sentences(path, error, "", Recipe.model_fields)) from None
    if recipe.builder not in BUILDERS:
        raise ConfigError(f"{path}: builder: {unknown_name('builder', recipe.builder, BUILDERS)}")
    reserved = {"dropped"} & set(recipe.splits)
    if reserved:
        raise ConfigError(f"{path}: no split can be named 'dropped': dropped.jsonl holds the rows left out")
    model = BUILDERS[recipe.builder].options
    try:
        options = model.model_validate(recipe.options)
    except ValidationError as error:
        raise ConfigError(_sentences(path, error, "options.", model.model_fields)) from None
    return recipe.model_copy(update={"options": options.model_dump(mode="json")}), options


def find_recipe(name_or_path: str | os.PathLike[str]) -> Path:
    """The recipe file.

    A bare name (`digits`: no slash, no suffix) is one of the recipes that come with mmrl, whatever the working folder
    holds. Everything else is a path, as given.
    """
    path = Path(name_or_path)
    known = known_recipes()
    if path.suffix not in _SUFFIXES and len(path.parts) == 1:
        if path.name not in known:
            raise ConfigError(f"{unknown_name('recipe', path.name, known)} A recipe of your own is given by its path.")
        return known[path.name]
    if not path.is_file():
        own = f" The recipe that comes with mmrl is called by its name: {path.stem}." if path.stem in known else ""
        raise ConfigError(f"the recipe {path} does not exist, or is not a file.{own} Give the path of a YAML file, or "
                          f"one of: {', '.join(sorted(known))}.")  # fmt: skip
    return path


def known_recipes() -> dict[str, Path]:
    """Name → file of the recipes that come with mmrl: `<name>.yaml`, or `<name>/recipe.yaml`."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "shipped" / "data_recipes", package.parent / "data_recipes"):  # installed, or a checkout
        if folder.is_dir():
            files = {path.stem: path for path in folder.glob("*.yaml")}
            return files | {path.parent.name: path for path in folder.glob("*/recipe.yaml")}
    return {}


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"{path} holds no recipe; it must be a mapping with name, builder and splits")
    return fields


def _sentences(path: Path, error: ValidationError, prefix: str, known: Iterable[str]) -> str:
    """All that pydantic found, one line each, with a guess for keys nobody knows."""
    lines = []
    for found in error.errors():
        key = prefix + ".".join(str(part) for part in found["loc"] if part != "[key]")
        if found["type"] == "extra_forbidden":
            lines.append(f"{key}: {unknown_name('key', str(found['loc'][-1]), known)}")
        elif found["type"] == "missing":
            lines.append(f"{key} is missing; every recipe needs it")
        else:
            lines.append(f"{key}: {found['msg']} (it is {found['input']!r})")
    return f"{path}: " + "\n  ".join(lines)


def recipe_identity(recipe: Recipe) -> Mapping[str, Any]:
    """What of a recipe decides the files that it gives: all but its prose."""
    return recipe.model_dump(mode="json", exclude={"description", "source"})
