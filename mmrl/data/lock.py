"""`recipe.lock.json`: what a data set was built from, and whether a folder still is what was built.

The recipe with all options, the builder's revision and the inputs *identify* a build. The versions of the packages are
recorded, but do not: a data set stays valid when Pillow is updated. Neither do hub commits: whoever wants the same rows
again names a revision in the recipe.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmrl.data.media_digests import changed_media
from mmrl.errors import RunError

LOCK_NAME = "recipe.lock.json"


def identity(
    recipe: Mapping[str, Any], *, revision: int | Mapping[str, int], inputs: Mapping[str, str]
) -> dict[str, Any]:
    """The part of a lock that decides whether two builds are the same."""
    text = json.dumps(recipe, ensure_ascii=False)  # in its order: the order of the splits decides ties
    return {
        "recipe": dict(recipe),
        "recipe_sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "builder_revision": revision,
        "inputs": dict(inputs),
    }


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of mmrl, of Python and of what shaped the output."""
    found = {"python": platform.python_version()}
    for package in ("mmrl", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return dict(sorted(found.items()))


def lock_text(lock: Mapping[str, Any]) -> bytes:
    return (json.dumps(lock, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file of any size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file directly in `folder`, and one over all files of each folder in it. Without the lock."""
    digests = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            whole = hashlib.sha256()
            for file in sorted(path for path in entry.rglob("*") if path.is_file()):
                name = file.relative_to(entry).as_posix()
                whole.update(f"{name}\0{file_digest(file)}\n".encode())
            digests[entry.name + "/"] = whole.hexdigest()
        elif entry.name != LOCK_NAME:
            digests[entry.name] = file_digest(entry)
    return digests


def check_existing(folder: Path, expected: Mapping[str, Any]) -> dict[str, Any]:
    """The lock of a folder that is what a build of `expected` gave; otherwise a RunError that says what differs."""
    way_out = "Choose another --out, or move or delete that folder first; nothing was changed."
    if not folder.is_dir():
        raise RunError(f"{folder} is in the way: it is a file, and the data set needs a folder there. {way_out}")
    try:
        lock = json.loads((folder / LOCK_NAME).read_text(encoding="utf-8"))
        differs = [key for key, value in expected.items() if lock[key] != value]
        sentences = [_difference(key, lock[key], expected[key]) for key in differs]
        digests = lock["files"]
    except FileNotFoundError:
        raise RunError(f"{folder} exists and is not a built data set (it has no {LOCK_NAME}). {way_out}") from None
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{folder / LOCK_NAME} is damaged, so what the folder holds is unknown. {way_out}") from None
    if differs:
        told = [text for key, text in zip(differs, sentences, strict=True) if key != "recipe_sha256"] or sentences
        raise RunError(f"{folder} holds a data set that was built differently: {'; '.join(told)}. {way_out}")
    now = folder_digests(folder)
    changed = sorted(name for name in digests.keys() | now.keys() if digests.get(name) != now.get(name))
    if changed:
        raise RunError(
            f"{folder} was changed since it was built: {', '.join(changed)} differ(s) from {LOCK_NAME}. {way_out}"
        )
    media = changed_media(folder)
    if media:
        raise RunError(f"media of {folder} were changed since it was built: {'; '.join(media)}. {way_out}")
    return dict(lock)


def _difference(key: str, there: Any, asked: Any) -> str:
    if isinstance(there, dict) and isinstance(asked, dict):
        keys = sorted(k for k in there.keys() | asked.keys() if there.get(k) != asked.get(k))
        return ", ".join(_difference(f"{key}.{k}", there.get(k), asked.get(k)) for k in keys)
    return f"{key} is {there!r} there and {asked!r} now"
