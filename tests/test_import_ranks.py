"""Inside mmrl a module imports only from lower ranks (docs/design.md §2); heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmrl"
RANKS = {
    "errors": 0,
    "types": 0,
    "progress": 0,
    "atomic": 0,
    "child": 0,
    "memory": 0,
    "batch": 1,
    "tensors": 1,
    "ranks": 1,
    "rank_watch": 2,
    "credit": 2,
    "objective": 2,
    "plan": 2,
    "rewards": 2,
    "data": 2,
    "curriculum": 2,
    "curation": 3,
    "algorithms": 3,
    "policy": 3,
    "traces": 3,
    "rollout": 4,
    "backend": 4,
    "training": 5,
    "evaluation": 5,
    "doctor": 6,
    "report": 6,
    "config": 6,
    "build": 7,
    "forecast": 8,
    "pipeline": 8,
    "claims": 9,
    "cli": 10,
}
ONLY_IN = {
    "transformers": ("policy", "rollout/transformers_engine.py", "pipeline/run_folder.py"),
    "vllm": ("rollout",),
    "deepspeed": ("backend",),
    "gradio": (),
    "pydantic": ("config", "data", "claims"),
    "typer": ("cli",),
    "rich": ("cli",),
}


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.module or "", node.lineno
            if node.module == "mmrl":
                for alias in node.names:
                    yield f"mmrl.{alias.name}", node.lineno


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_of_the_package_has_a_rank() -> None:
    parts = {_part(path) for path in _modules()} - {"__init__", "__main__"}
    assert parts <= set(RANKS)


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_module_imports_only_from_lower_ranks(path: Path) -> None:
    own = _part(path)
    if own in ("__init__", "__main__"):
        return
    for name, line in _imports(path):
        pieces = name.split(".")
        if pieces[0] != "mmrl" or len(pieces) == 1 or pieces[1] not in RANKS or pieces[1] == own:
            continue
        assert RANKS[pieces[1]] < RANKS[own], f"{path.name}:{line} imports {name} of an equal or higher rank"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_only_where_they_belong(path: Path) -> None:
    where = str(path.relative_to(PACKAGE))
    for name, line in _imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        if allowed is not None:
            assert where.startswith(allowed or ("none",)), f"{path.name}:{line} imports {name}"
