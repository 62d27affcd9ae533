"""A claim's file → `Claim`, checked whole: the file itself, and the run config of every arm, stage and evaluation."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from mmrl.claims.configs import check_configs
from mmrl.claims.schema import Claim
from mmrl.config.tree import Origin, plain, shown
from mmrl.config.yaml_file import parse_yaml
from mmrl.errors import ConfigError, unknown_name

SUFFIXES = (".yaml", ".yml")


def known_claims() -> dict[str, Path]:
    """Name → file of the claims that come with mmrl: configs/claims/<name>.yaml."""
    package = Path(__file__).resolve().parents[1]
    for configs in (package / "shipped" / "configs", package.parent / "configs"):  # installed, or a checkout
        if (configs / "claims").is_dir():
            return {path.stem: path for path in sorted((configs / "claims").glob("*.yaml"))}
    return {}


def find_claim(name_or_path: str | os.PathLike[str]) -> Path:
    """The claim's file: a bare name is one that comes with mmrl, everything else a path."""
    path, known = Path(name_or_path), known_claims()
    if path.suffix not in SUFFIXES and len(path.parts) == 1:
        if path.name not in known:
            raise ConfigError(f"{unknown_name('claim', path.name, known)} A claim of your own is given by its path.")
        return known[path.name]
    if not path.is_file():
        raise ConfigError(f"there is no claim {shown(path)}. Give a YAML file, or one of: {', '.join(known)}.")
    return path


def load_claim(name_or_path: str | os.PathLike[str], *, check: bool = True) -> Claim:
    """The claim, with recipes' paths absolute. ConfigError names every mistake of the file.

    check: also put together and check every run config that it leads to (a second or two); leave it out to list claims.
    """
    path = find_claim(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown(path)} cannot be read: {error}") from None
    root, problems = parse_yaml(text, Origin(file=path))
    if problems:
        raise ConfigError("\n  ".join(str(problem) for problem in problems))
    try:
        claim = Claim.model_validate(_with_paths(plain(root), path.parent))
    except ValidationError as error:
        raise ConfigError(_sentences(path, error)) from None
    if claim.name != path.stem:
        raise ConfigError(f"{shown(path)}: name is {claim.name!r}; it must be that of the file, {path.stem!r}")
    if check:
        check_configs(claim)
    return claim


def _with_paths(fields: object, folder: Path) -> object:
    """Recipes beside the claim's file by their absolute paths; a bare name is a recipe that comes with mmrl."""
    if not isinstance(fields, dict) or not isinstance(fields.get("data"), dict):
        return fields
    data = {}
    for name, entry in fields["data"].items():
        recipe = entry.get("recipe") if isinstance(entry, dict) else None
        if isinstance(recipe, str) and Path(recipe).suffix in SUFFIXES:
            entry = {**entry, "recipe": str((folder / recipe).resolve())}
        data[name] = entry
    return {**fields, "data": data}


def _sentences(path: Path, error: ValidationError) -> str:
    """All that pydantic found, one line each."""
    lines = []
    for found in error.errors(include_url=False):
        key = ".".join(str(part) for part in found["loc"])
        said = found["msg"].removeprefix("Value error, ")
        shown_input = "" if found["type"] in ("value_error", "missing") else f" (it is {str(found['input'])[:60]!r})"
        lines.append(f"{key}: {said}{shown_input}" if key else said)
    return f"{shown(path)}: " + "\n  ".join(lines)
