"""Which file a relative path in a config means.

In a config file: the nearest one, looked for in the folder of the file that says it, then in each folder above that
one, and last in the current folder. So a config shipped with its recipes works from wherever it is run, and a manifest
of one's own can be named from where one stands. In an override: the current folder, as a shell would have it.
The outcome is absolute, so that the resolved config of a run means the same from everywhere.

`run.folder`, where output goes, is always relative to the current folder. A recipe named by a bare word (`digits`) is
one that comes with mmrl, and no path. A leading `~` is the user's home.
"""

from __future__ import annotations

from pathlib import Path

from mmrl.config.tree import KeyPath, Node, Origin, Problem, find, place

DATA_PATHS: tuple[KeyPath, ...] = (
    ("data", "recipe"),
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
)
UNTRAINED: KeyPath = ("evaluation", "untrained")
MODEL_PATH: KeyPath = ("model", "path")
RUN_FOLDER: KeyPath = ("run", "folder")


def resolve_paths(root: Node) -> tuple[Node, list[Problem]]:
    """`root` with absolute paths, and a problem for each file that is not there."""
    problems: list[Problem] = []
    output = find(root, RUN_FOLDER)
    if output is not None and isinstance(output.value, str):
        expanded = Node(value=str(Path(output.value).expanduser()), origin=output.origin)
        root = place([str(key) for key in RUN_FOLDER], expanded, root)
    for path in (*DATA_PATHS, *_untrained(root), MODEL_PATH):
        node = find(root, path)
        if node is None or not isinstance(node.value, str):
            continue
        if path == ("data", "recipe") and names_shipped_recipe(node.value):
            continue
        located = _locate(node.value, node.origin)
        if located is not None:
            root = place([str(key) for key in path], Node(value=str(located), origin=node.origin), root)
        elif path != MODEL_PATH or _cannot_be_a_hub_name(node.value):
            problems.append(Problem(path=path, origin=node.origin, text=_not_found(node)))
    return root, problems


def _untrained(root: Node) -> tuple[KeyPath, ...]:
    """Where manifests of tasks that are not trained are named."""
    node = find(root, UNTRAINED)
    return tuple((*UNTRAINED, str(name)) for name in node.value) if node and isinstance(node.value, dict) else ()


def names_shipped_recipe(recipe: str) -> bool:
    """Whether a recipe is a bare name (no folder, no suffix): one of those that come with mmrl, and no path at all."""
    return len(Path(recipe).parts) == 1 and not Path(recipe).suffix


def _locate(name: str, origin: Origin) -> Path | None:
    path = Path(name).expanduser()
    folders = [Path.cwd()]
    if origin.file is not None and origin.override is None:
        folders = [*origin.file.resolve().parents, *folders]
    return next(((folder / path).resolve() for folder in folders if (folder / path).exists()), None)


def _cannot_be_a_hub_name(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def _not_found(node: Node) -> str:
    text = f"there is no {node.value!r}"
    if not Path(str(node.value)).expanduser().is_absolute():
        if node.origin.override is None:
            text += " beside the config file, in a folder above it or in the current folder"
        else:
            text += " in the current folder"
    return text
