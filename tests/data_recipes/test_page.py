"""The page about the recipes is what the recipes say."""

import runpy
from pathlib import Path

import pytest

from mmrl.data.recipe_file import known_recipes

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_page_is_what_the_recipes_give():
    written = (ROOT / "docs" / "data_recipes.md").read_text(encoding="utf-8")
    fresh = runpy.run_path(str(ROOT / "tools" / "write_recipes_page.py"))["page"]()
    assert written == fresh, "it is old: run python tools/write_recipes_page.py"
    assert all(f"### {name}\n" in written for name in known_recipes())
