"""The page about data names everything that the code knows."""

from pathlib import Path

import pytest

from mmrl.data.answers import ANSWERS
from mmrl.data.formats.catalog import FORMATS
from mmrl.data.images import REASONS
from mmrl.data.jsonl import parse_json
from mmrl.data.manifest import parse_sample
from mmrl.data.samples import KEYS, MEDIA_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*ANSWERS, *KEYS, *MEDIA_KEYS, *REASONS])
def test_the_page_names_every_key_type_and_reason(name):
    assert f"`{name}`" in PAGE.replace("\n", " ")


def test_the_page_lists_every_format():
    assert all(f"| `{name}` |" in PAGE for name in FORMATS)


def test_the_example_row_is_sound(tmp_path):
    row = PAGE.split("```json\n")[1].split("```")[0]
    assert parse_sample(parse_json(row), where="data.md", root=tmp_path).answer.value == "C"
