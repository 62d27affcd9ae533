"""A config file → `Config`, with every mistake found in one go.

    extends: ../quickstart/digits.yaml     # or a list; later ones win; relative to this file
    run: {name: my-run}
    train: {steps: 20}

A file is laid over what it extends: sections are merged key by key, everything else (lists too) is replaced, and
`key: null` removes an optional value. A part that changes its `type` or `base` is replaced whole. Overrides
(`train.steps=20`) come last. What a data recipe brings along: `recipe_settings.py`. How relative paths are found:
`paths.py`. What must fit together: `checks.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mmrl.config.checks import mistakes
from mmrl.config.messages import schema_problems
from mmrl.config.paths import resolve_paths
from mmrl.config.recipe_settings import lay_over_recipe
from mmrl.config.schema import Config
from mmrl.config.tree import KeyPath, Node, Origin, Problem, find, merge, origin_of, place, plain, shown
from mmrl.config.yaml_file import dump_yaml, parse_override, parse_yaml
from mmrl.errors import ConfigError, nearest


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config at `path` with `overrides` on top. ConfigError names every mistake with its key and place."""
    root, problems = _read(Path(path), Origin(), ())
    if any(not problem.path for problem in problems):  # a file could not be read: what follows would be noise
        raise _error(path, problems)
    whole, more = _resolved(root, overrides)
    recipe = find(whole, ("data", "recipe"))
    if recipe is not None and isinstance(recipe.value, str):
        whole, more = _resolved(lay_over_recipe(root, recipe.value), overrides)
    config, invalid = _validate(whole)
    problems += more + invalid
    if config is None or problems:
        raise _error(path, problems)
    return config


def changed(config: Config, overrides: Sequence[str]) -> Config:
    """`config` with overrides (`evaluation.limit=100`) on top; ConfigError as from `load_config`."""
    root, problems = parse_yaml(dump_config(config), Origin())
    for override in overrides:
        root, more = _apply(override, root)
        problems += more
    made, invalid = _validate(root)
    if made is None or problems or invalid:
        raise _error("the config", [*problems, *invalid])
    return made


def dump_config(config: Config) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal one."""
    return dump_yaml(config.model_dump(mode="json"))


def _read(path: Path, asked_at: Origin, opened: tuple[Path, ...]) -> tuple[Node, list[Problem]]:
    """The tree of a file laid over the files it extends. `opened` are the files that led here."""
    empty = Node(value={}, origin=Origin(file=path))
    if path.resolve() in opened:
        chain = " → ".join(shown(file) for file in (*opened[opened.index(path.resolve()) :], path))
        return empty, [Problem(path=(), origin=asked_at, text=f"configs extend each other in a circle: {chain}")]
    written, problem = _text_of(path, asked_at)
    if problem is not None:
        return empty, [problem]
    own, problems = parse_yaml(written, Origin(file=path))
    if not isinstance(own.value, dict):
        found = "is empty" if own.value is None else "holds no section"
        text = f"{found}; a config is made of `key: value` lines"
        return empty, [*problems, Problem(path=(), origin=Origin(file=path), text=text)]
    below = {key: node for key, node in own.value.items() if key != "extends"}
    merged = empty
    for name, origin in _extended(own, problems):
        base, more = _read(path.parent / Path(name).expanduser(), origin, (*opened, path.resolve()))
        merged, problems = merge(merged, base), problems + more
    return merge(merged, Node(value=below, origin=own.origin, key_origins=own.key_origins)), problems


def _text_of(path: Path, asked_at: Origin) -> tuple[str, Problem | None]:
    try:
        return path.read_text(encoding="utf-8"), None
    except FileNotFoundError:
        siblings = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        guess = nearest(path.name, siblings)
        hint = f" Did you mean {shown(path.parent / guess)}?" if guess else ""
        said = f"there is no config file {shown(path)}.{hint}"
    except IsADirectoryError:
        inside = ", ".join(sorted(file.name for file in path.glob("*.y*ml"))[:8])
        said = f"{shown(path)} is a folder; name a YAML file" + (f" in it: {inside}" if inside else "")
    except UnicodeDecodeError:
        said = f"{shown(path)} is not a text file in UTF-8"
    except OSError as error:
        said = f"{shown(path)} cannot be read: {error.strerror}"
    return "", Problem(path=(), origin=asked_at, text=said)


def _extended(own: Node, problems: list[Problem]) -> list[tuple[str, Origin]]:
    assert isinstance(own.value, dict)
    named = own.value.get("extends")
    if named is None:
        return []
    entries = named.value if isinstance(named.value, tuple) else (named,)
    if all(isinstance(entry.value, str) for entry in entries):
        return [(str(entry.value), entry.origin) for entry in entries]
    problems.append(Problem(path=("extends",), origin=named.origin, text="must be a file name or a list of them"))
    return []


def _resolved(root: Node, overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """With overrides on top and absolute paths."""
    problems: list[Problem] = []
    for override in overrides:
        root, more = _apply(override, root)
        problems += more
    root, more = resolve_paths(root)
    return root, problems + more


def _apply(override: str, root: Node) -> tuple[Node, list[Problem]]:
    parts, value, problems = parse_override(override)
    if problems:
        return root, problems
    try:
        return place(parts, value, root), []
    except IndexError:
        return root, [Problem(path=tuple(parts), origin=value.origin, text="the list has no item of this number")]


def _validate(root: Node) -> tuple[Config | None, list[Problem]]:
    """The config, or the mistakes of the schema and of the checks between sections."""
    config: Config | None = None
    problems: list[Problem] = []
    try:
        config = Config.model_validate_json(json.dumps(plain(root)), strict=True)
        sections: dict[str, Any] = {name: getattr(config, name) for name in Config.model_fields}
    except ValidationError as error:
        problems = schema_problems(error, root)
        sections = _sound_sections(root, {problem.path[:1] for problem in problems})
    found = [Problem(path=path, origin=origin_of(root, path), text=text) for path, text in mistakes(sections)]
    return config, problems + found


def _sound_sections(root: Node, broken: set[KeyPath]) -> dict[str, Any]:
    assert isinstance(root.value, dict)
    sections: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        if (name,) in broken:
            continue
        if name in root.value:
            annotation: Any = field.annotation
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            sections[name] = adapter.validate_json(json.dumps(plain(root.value[name])), strict=True)
        else:
            sections[name] = field.get_default(call_default_factory=True)
    return sections


def _error(path: str | Path, problems: list[Problem]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(str(problems[0]))
    lines = "\n".join(f"  {problem}" for problem in problems)
    return ConfigError(f"{shown(Path(path))}: {len(problems)} problems\n{lines}")
