"""The recipe file: which builders make a data set, with which options, how rows are mixed, filtered and split, and how
their answers are scored.

name: digits
builder: digits                                       # one of builders/catalog.py
seed: 0
splits: {train: 1300, validation: 200, test: 297}     # shares; counts where the builder generates its rows
options: {size: 56}                                   # the builder's own
filters: {longest_question: 2000}                     # see recipe_filter.py
prompt: {mode: think_answer}                          # how the questions are meant to be asked …
rewards: {default: [{name: choice}]}                  # … and scored: task → rewards, as in a run's config

Several sources are named, each with its weight in the mixture:

sources:
  counting: {builder: counting, weight: 2}
  pointing: {builder: pointing, weight: 1}
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmrl.data.builders.catalog import BUILDERS, Builder
from mmrl.data.recipe_filter import Filters
from mmrl.errors import ConfigError, unknown_name

_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
_Share = Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0, allow_inf_nan=False)]
_SHARE_KINDS = ("constrained-int", "constrained-float")  # pydantic's names of what a share may be
_SUFFIXES = (".yaml", ".yml")
_NO_BUILDER = "builder is missing; every recipe needs it, or several `sources`"
_COUNT = "n_"  # `n_train=500` sets splits.train


class SourceEntry(BaseModel):
    """One of several sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    builder: str = Field(description="a name of the builder table")
    weight: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="its part of the mixture, of the sum of weights; null: all its rows",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the builder")


class PromptEntry(BaseModel):
    """How the questions are meant to be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["think_answer", "answer", "think", "observe", "vanilla"] = "think_answer"


class Recipe(BaseModel):
    """A recipe as it is written; `options` are checked by the builder's own class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: _Word = Field(description="begins every sample id")
    builder: str | None = Field(None, description="a name of the builder table; or give `sources`")
    description: str = ""
    source: str = Field("", description="where the rows come from and whose work they are")
    unconfirmed: str = Field("", description="what of names, columns or licences is from memory; told when it is built")
    seed: int = Field(0, ge=0)
    splits: dict[_Word, _Share] = Field(
        description="split → share; shares are divided by their sum. Of generated rows: how many", min_length=1
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the builder")
    sources: dict[_Word, SourceEntry] = Field(default_factory=dict, description="several sources, mixed by weight")
    filters: Filters = Field(default_factory=Filters, description="which rows are kept")
    prompt: PromptEntry | None = Field(None, description="how the questions are meant to be asked")
    rewards: dict[str, list[dict[str, Any]]] = Field(
        default_factory=dict, description="task → its rewards, as in a run's config; `default` serves the others"
    )

    @model_validator(mode="after")
    def _one_way_to_name_sources(self) -> Recipe:
        if self.builder is None and not self.sources:
            raise ValueError(_NO_BUILDER)
        if self.builder is not None and self.sources:
            raise ValueError("builder and sources exclude each other; name all the sources under `sources`")
        if self.sources and self.options:
            raise ValueError("options belong to one of the sources: write sources.NAME.options")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One source of a recipe, completely checked."""

    name: str  # its name among `sources`; empty where there is only one
    builder: Builder
    options: BaseModel
    weight: float | None


def load_recipe(
    name_or_path: str | os.PathLike[str], *, seed: int | None = None, settings: Sequence[str] = ()
) -> tuple[Recipe, BaseModel]:
    """(recipe, its builder's options: the first source's), completely checked; see `load_parts`."""
    recipe, parts = load_parts(name_or_path, seed=seed, settings=settings)
    return recipe, parts[0].options


def load_parts(
    name_or_path: str | os.PathLike[str], *, seed: int | None = None, settings: Sequence[str] = ()
) -> tuple[Recipe, list[Part]]:
    """(recipe, its sources), completely checked; `seed` replaces the recipe's.

    settings: `n_train=500` (how many rows of a split), `size=84` (an option of the builder), `counting.size=84` (of one
    of several sources), `counting.weight=3`.
    """
    path = find_recipe(name_or_path)
    fields = _read_yaml(path)
    for setting in settings:
        _apply(fields, setting)
    try:
        recipe = Recipe.model_validate(fields if seed is None else {**fields, "seed": seed})
    except ValidationError as error:
        text = _sentences(path, error, "", Recipe.model_fields)
        if _NO_BUILDER not in text and not (fields.get("builder") or fields.get("sources")):
            text += f"\n  {_NO_BUILDER}"  # what pydantic checks last, and only where all else is right
        raise ConfigError(text) from None
    reserved = {"dropped"} & set(recipe.splits)
    if reserved:
        raise ConfigError(f"{path}: no split can be named 'dropped': dropped.jsonl holds the rows left out")
    if recipe.builder is not None:
        part = _part(path, "", recipe.builder, recipe.options, 1.0, "")
        _check_counts(path, recipe, [part])
        return recipe.model_copy(update={"options": part.options.model_dump(mode="json")}), [part]
    parts = [
        _part(path, name, entry.builder, entry.options, entry.weight, f"sources.{name}.")
        for name, entry in recipe.sources.items()
    ]
    _check_counts(path, recipe, parts)
    complete = {
        part.name: recipe.sources[part.name].model_copy(update={"options": part.options.model_dump(mode="json")})
        for part in parts
    }
    return recipe.model_copy(update={"sources": complete}), parts


def _part(path: Path, name: str, builder: str, given: Mapping[str, Any], weight: float | None, where: str) -> Part:
    if builder not in BUILDERS:
        raise ConfigError(f"{path}: {where}builder: {unknown_name('builder', builder, BUILDERS)}")
    model = BUILDERS[builder].options
    try:
        options = model.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_sentences(path, error, f"{where}options.", model.model_fields)) from None
    return Part(name=name, builder=BUILDERS[builder], options=options, weight=weight)


def _check_counts(path: Path, recipe: Recipe, parts: Sequence[Part]) -> None:
    generated = [part for part in parts if part.builder.generates]
    broken = {split: share for split, share in recipe.splits.items() if not isinstance(share, int)}
    if generated and broken:
        split, share = next(iter(broken.items()))
        raise ConfigError(f"{path}: splits.{split} is {share}; the rows are generated, so say how many: a whole number")


def _apply(fields: dict[str, Any], setting: str) -> None:
    import yaml

    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"{setting!r} is no setting; write key=value: n_train=500, or an option such as size=84")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{setting!r}: the value is not readable ({' '.join(str(error).split())})") from None
    splits = fields.get("splits")
    if key.startswith(_COUNT) and isinstance(splits, dict):
        split = key.removeprefix(_COUNT)
        if split not in splits:
            raise ConfigError(f"{setting!r}: {unknown_name('split', split, splits)}")
        fields["splits"] = {**splits, split: value}
        return
    sources = fields.get("sources")
    if not isinstance(sources, dict):
        fields["options"] = {**(fields.get("options") or {}), key.removeprefix("options."): value}
        return
    name, dot, option = key.partition(".")
    if dot and name not in sources:
        raise ConfigError(f"{setting!r}: {unknown_name('source', name, sources)}")
    for source in [name] if dot else list(sources):
        entry = dict(sources[source] or {})
        if dot and option == "weight":
            entry["weight"] = value
        else:
            entry["options"] = {**(entry.get("options") or {}), (option if dot else key): value}
        sources = {**sources, source: entry}
    fields["sources"] = sources


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
        parts = [str(part) for part in found["loc"] if part != "[key]"]
        if parts and parts[-1] in _SHARE_KINDS:
            if parts[-1] == _SHARE_KINDS[0]:  # said once, not for each kind of number that it is not
                at = prefix + ".".join(parts[:-1])
                lines.append(f"{at} is {found['input']!r}; give a count or a share above 0")
            continue
        key = prefix + ".".join(parts)
        if found["type"] == "extra_forbidden":
            lines.append(f"{key}: {unknown_name('key', str(found['loc'][-1]), known)}")
        elif found["type"] == "missing":
            lines.append(f"{key} is missing; every recipe needs it")
        elif not found["loc"] and found["type"] == "value_error":
            lines.append(f"{prefix}{found['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{key}: {found['msg']} (it is {found['input']!r})")
    return f"{path}: " + "\n  ".join(lines)


def recipe_identity(recipe: Recipe) -> Mapping[str, Any]:
    """What of a recipe decides the files that it gives: all but its prose. What is not set is not named."""
    fields = recipe.model_dump(mode="json", exclude={"description", "source", "unconfirmed"})
    fields["filters"] = recipe.filters.model_dump(mode="json", exclude_defaults=True)
    if recipe.sources:
        del fields["options"]
    return {key: value for key, value in fields.items() if value or key in ("name", "seed", "splits", "options")}
