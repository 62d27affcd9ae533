"""Prompts are as large as the run's, also before its data are built; what is assumed instead is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from mmrl.config.schema import Config
from mmrl.data.recipe import build_recipe
from mmrl.forecast.prompts import Prompts, prompts_of
from mmrl.policy.skeleton import architecture, processor_of, skeleton
from tests.forecast.planned import config_of


def prompts(config: Config, **given: int) -> Prompts:
    tiny = config.model.tiny
    assert tiny is not None
    settings: dict[str, Any] = tiny.model_dump()
    told = {"text_tokens": 0, "visual_tokens": -1, **given}
    return prompts_of(
        config, skeleton(architecture(None, settings), dtype=torch.float32), processor_of(None, settings), **told
    )


def sizes(found: Prompts) -> Counter[tuple[int, int]]:
    return Counter((shown.tokens, shown.visual) for shown in found.shown)


def test_a_data_set_that_is_not_built_is_drawn_in_part(tmp_path: Path) -> None:
    """56×56 pixels are 4 tokens of 28×28. Built in full, the same prompts come of it."""
    config = config_of(tmp_path)
    before = prompts(config)
    assert before.notes == ()
    assert before.samples == 1300
    assert {shown.visual for shown in before.shown} == {4}
    assert not (tmp_path / "planned").exists(), "a plan leaves nothing behind"

    build_recipe("digits", tmp_path / "planned" / "data")
    after = prompts(config)
    assert sizes(after) == sizes(before)
    assert after.samples == 1300


def test_clips_of_a_recipe_are_drawn_too(tmp_path: Path) -> None:
    """Four seconds are 8 frames of 84×84 pixels: 4 grid times of 9 tokens."""
    found = prompts(config_of(tmp_path, data={"recipe": "clips"}, video={"min_pixels": 84 * 84}))
    assert {shown.visual for shown in found.shown} == {36}
    assert {len(shown.grids) for shown in found.shown} == {4}
    assert found.samples == 1200


def test_what_reads_files_is_assumed_and_said(tmp_path: Path) -> None:
    config = config_of(tmp_path, data={"recipe": "refcoco"})
    found = prompts(config)
    assert [shown.visual for shown in found.shown] == [1280]
    assert ["visual tokens" in note for note in found.notes] == [False, True]
    told = prompts(config, visual_tokens=16, text_tokens=20)
    assert [(shown.tokens, shown.visual) for shown in told.shown] == [(36, 16)]
    assert told.notes == ()
