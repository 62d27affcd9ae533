"""Prompts are as large as the run's, also before its data are built; what is assumed instead is said."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.data.recipe import build_recipe
from mmrl.forecast.prompts import Prompts, prompts_of, prompts_within
from mmrl.forecast.remedies import smaller
from mmrl.policy.skeleton import architecture, processor_of, skeleton
from tests.forecast.planned import config_of, pictures_of


def prompts(config: Config, before: Prompts | None = None, **given: int) -> Prompts:
    """Of the config; or those `before` within its limits."""
    tiny = config.model.tiny
    assert tiny is not None
    settings: dict[str, Any] = tiny.model_dump()
    told = {"text_tokens": 0, "visual_tokens": -1, **given}
    policy, processor = skeleton(architecture(None, settings), dtype=torch.float32), processor_of(None, settings)
    if before is not None:
        return prompts_within(before, config, policy, processor, **told)
    return prompts_of(config, policy, processor, **told)


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


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "lfm2_vl"])
def test_pictures_are_shown_again_within_smaller_limits(tmp_path: Path, family: str) -> None:
    """As a plan with those limits shows them; and where limits are the same, nothing is done again."""
    samples = str(pictures_of(tmp_path, 640, 480))
    config = config_of(tmp_path, data={"train": samples}, model={"tiny": {"family": family}})
    large = prompts(config)
    assert large.frames == [0, 0]
    assert large.pictures == [shown.visual * large.square for shown in large.shown]
    assert prompts(changed(config, ["train.lora={rank: 4}"]), large) is large
    [settings] = smaller(config, large, 2)
    assert settings == [f"model.max_pixels={large.pictures[0] // 2}"]
    half = changed(config, settings)
    small = prompts(half, large)
    assert 0.3 * large.pictures[0] < small.pictures[0] <= 0.5 * large.pictures[0]
    assert small == prompts(half)


def test_clips_are_shown_again_within_smaller_limits(tmp_path: Path) -> None:
    """Frames of 12 × 12 tokens: the 128 that they have at least, unless that bound is lowered too."""
    config = config_of(tmp_path, data={"recipe": "clips"})
    large = prompts(config)
    assert large.pictures == [0] * 4
    assert {frame // large.square for frame in large.frames} == {144}
    [settings] = smaller(config, large, 2)
    assert settings == [f"video.max_pixels={72 * 784}", "video.min_pixels=53760"]
    small = prompts(changed(config, settings), large)
    assert {frame // small.square for frame in small.frames} == {81}
    assert {shown.visual for shown in small.shown} == {4 * 81}
    bounded = changed(config, [f"video.max_pixels={400 * 784}"])
    assert smaller(bounded, replace(large, frames=[400 * 784]), 1) == [[f"video.max_pixels={200 * 784}"]]


def test_assumed_prompts_shrink_with_the_pixels_that_are_allowed(tmp_path: Path) -> None:
    """Tokens of 28 × 28 pixels. What the user told shrinks in the same ratio."""
    unread = {"data": {"recipe": "refcoco"}}
    config = config_of(tmp_path, **unread)
    assumed = prompts(config)
    assert (assumed.pictures, assumed.frames) == ([1280 * 784], [0])
    half = changed(config, [f"model.max_pixels={640 * 784}"])
    assert [shown.visual for shown in prompts(half, assumed).shown] == [640]
    told = prompts(config, visual_tokens=4000)
    assert told.pictures == [4000 * 784]
    assert prompts(half, told, visual_tokens=4000).shown[0].visual == 640
    several = prompts(half, visual_tokens=4000)  # more than one picture may have
    assert several.pictures == [640 * 784]
    quarter = changed(config, [f"model.max_pixels={320 * 784}"])
    assert prompts(quarter, several, visual_tokens=4000).shown[0].visual == 2000
    clips = config_of(tmp_path, video={"max_frames": 16}, **unread)
    clip = prompts(clips)
    assert (clip.pictures, clip.frames) == ([0], [768 * 784])
    frames = changed(clips, [f"video.max_pixels={384 * 784}"])
    assert [shown.visual for shown in prompts(frames, clip).shown] == [8 * 384]
    assert prompts(frames, prompts(clips, visual_tokens=900), visual_tokens=900).shown[0].visual == 450
