"""docs/config.md is what the schema says, and says something of every key."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrl.config.schema import Config

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "write_config_page.py"))


def keys(model: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    for name, info in model.model_fields.items():
        inside = TOOL["_model_inside"](info.annotation)
        if inside is not None:
            yield from keys(inside, f"{path}{name}.")
        else:
            yield f"{path}{name}", name, info


def test_the_page_of_the_config_is_current() -> None:
    current = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert current == TOOL["config_page"](), "docs/config.md is old: run python tools/write_config_page.py"


def test_every_key_says_what_it_means_and_is_on_the_page() -> None:
    page = TOOL["config_page"]()
    found = list(keys(Config, ""))
    assert len(found) > 100
    assert [full for full, _, info in found if not info.description] == []
    for _, name, _ in found:
        assert f"\n| `{name}` | " in page


def test_types_ranges_and_defaults_are_in_words() -> None:
    page = TOOL["config_page"]()
    assert "| `group_size` | whole number, ≥ 1 | `8` | rollouts per prompt (G) |" in page
    assert "| `temperature` | number, > 0 | `1` | of training rollouts" in page
    assert '| `schedule` | `constant`, `linear`, `cosine` | `"constant"` |' in page
    assert "| `name` | text, `^[A-Za-z0-9][A-Za-z0-9._-]*$` | **required** |" in page
    assert "| `betas` | 2 × number, ≥ 0, ≤ 1 | `[0.9, 0.999]` |" in page
    assert "## train.lora" in page
