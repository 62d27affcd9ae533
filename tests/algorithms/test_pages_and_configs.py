"""Every entry has a page that is current and a smoke config that builds it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.catalog import ALGORITHMS, PARTS
from mmrl.config.load import load_config

ROOT = Path(__file__).parents[2]
PAGES: dict[str, str] = runpy.run_path(str(ROOT / "tools" / "write_algorithm_pages.py"))["pages"]()


def test_the_generated_pages_are_current() -> None:
    folder = ROOT / "docs" / "algorithms"
    assert {path.name for path in folder.glob("*.md")} == set(PAGES)
    old = [name for name, text in PAGES.items() if (folder / name).read_text(encoding="utf-8") != text]
    assert not old, f"{old} are old: run python tools/write_algorithm_pages.py"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_page_has_formula_parts_and_metrics(name: str) -> None:
    page = PAGES[f"{name}.md"]
    assert "\n    " in page  # the formula, indented
    assert f"arXiv:{ALGORITHMS[name].paper}" in page
    assert "## Parts and hyper-parameters" in page
    assert "| `loss/total` |" in page


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_smoke_config_builds_the_entry(name: str) -> None:
    config = load_config(ROOT / "configs" / "algorithms" / f"{name}.yaml")
    built = build_algorithm(config.algorithm)
    assert built.name == name
    assert built.title == ALGORITHMS[name].title


def test_the_hand_written_page_names_every_slot_and_links_the_list() -> None:
    page = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    assert all(f"`{slot}`" in page for slot in PARTS)
    assert "(algorithms/README.md)" in page
