"""A config while it is put together: values that remember where they were set.

    file ──read──▶ Node ──merge──▶ Node ──override──▶ Node ──plain──▶ what the schema checks

Every node knows its origin (a line of a file, or an override), so that a mistake is reported where it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Key = str | int  # a name in a mapping, or an index in a list
KeyPath = tuple[Key, ...]

# A mapping with one of these keys describes one part of a kind (`{type: k3, coef: 0.1}`). Where a later file names
# another kind, the earlier one's settings do not belong to it, so that the mapping is replaced instead of merged.
KIND_KEYS = ("type", "base")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value was set."""

    file: Path | None = None
    line: int | None = None
    override: str | None = None  # the command-line argument, when it was not a file

    def __str__(self) -> str:
        if self.override is not None:
            return f"override {self.override}"
        if self.file is None:
            return ""
        return f"{shown(self.file)}:{self.line}" if self.line else shown(self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A scalar, a tuple of nodes or a mapping of nodes."""

    value: str | int | float | bool | tuple[Node, ...] | dict[str, Node] | None
    origin: Origin
    key_origins: dict[str, Origin] = field(default_factory=dict)  # mapping: where each key was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake: said once, with the key and the place."""

    path: KeyPath
    origin: Origin
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.origin), dotted(self.path), self.text) if part)


def shown(file: Path) -> str:
    """A path as its reader would write it: relative where that is below the current folder."""
    try:
        return str(file.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def dotted(path: KeyPath) -> str:
    return ".".join(str(key) for key in path)


def merge(earlier: Node, later: Node) -> Node:
    """`later` on top of `earlier`: mappings are merged key by key, everything else (lists too) is replaced."""
    if not isinstance(earlier.value, dict) or not isinstance(later.value, dict):
        return later
    if any(_changes(earlier.value, later.value, key) for key in KIND_KEYS):
        return later
    merged = dict(earlier.value)
    for key, node in later.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    origin = later.origin if later.value else earlier.origin
    return Node(value=merged, origin=origin, key_origins={**earlier.key_origins, **later.key_origins})


def _changes(earlier: dict[str, Node], later: dict[str, Node], key: str) -> bool:
    return key in earlier and key in later and earlier[key].value != later[key].value


def place(path: Sequence[str], leaf: Node, root: Node) -> Node:
    """`root` with `leaf` at `path`; a number in the path counts items of a list. IndexError: no such item."""
    if not path:
        return merge(root, leaf)
    head, rest = path[0], path[1:]
    if isinstance(root.value, tuple) and head.isdigit():
        items = list(root.value)
        items[int(head)] = place(rest, leaf, items[int(head)])
        return Node(value=tuple(items), origin=leaf.origin)
    children = root.value if isinstance(root.value, dict) else {}
    child = place(rest, leaf, children.get(head, Node(value={}, origin=leaf.origin)))
    origins = {**root.key_origins, head: leaf.origin}
    return Node(value={**children, head: child}, origin=leaf.origin, key_origins=origins)


def plain(node: Node) -> Any:
    """The values alone, as JSON would hold them."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(child) for child in node.value]
    return node.value


def find(root: Node, path: KeyPath) -> Node | None:
    """The node at `path`, or None."""
    node: Node | None = root
    for key in path:
        if node is None:
            return None
        if isinstance(node.value, dict):
            node = node.value.get(str(key))
        elif isinstance(node.value, tuple) and isinstance(key, int):
            node = node.value[key] if key < len(node.value) else None
        else:
            return None
    return node


def origin_of(root: Node, path: KeyPath) -> Origin:
    """Where the key at `path` was written; for one that is missing, where the nearest section around it was."""
    for end in range(len(path), 0, -1):
        parent = find(root, path[: end - 1])
        if parent is not None and isinstance(parent.value, dict) and path[end - 1] in parent.key_origins:
            return parent.key_origins[str(path[end - 1])]
        node = find(root, path[:end])
        if node is not None:
            return node.origin
    return root.origin
