"""What a reward that asks for frames is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.data.images import BrokenMedia
from mmrl.data.pictures import pictures_of
from mmrl.types import Media
from tests import toy


def test_images_and_listed_frames_in_order(pictures: list[Path]) -> None:
    frames = Media(type="frames", paths=(str(pictures[2]), str(pictures[1])), fps=1.0)
    sample = toy.choice_sample("s", pictures[:1])
    sample = replace(sample, media=(*sample.media, frames))
    assert [picture.size for picture in pictures_of(sample)] == [(56, 56), (60, 200), (120, 90)]


def test_a_video_is_refused_by_name() -> None:
    sample = replace(toy.choice_sample("s"), media=(Media(type="video", path="clip.mp4"),))
    with pytest.raises(BrokenMedia, match=r"clip\.mp4"):
        pictures_of(sample)


def test_a_run_s_scorer_shows_a_reward_the_pictures(pictures: list[Path]) -> None:
    from mmrl import build
    from mmrl.config.schema import Config
    from mmrl.types import RolloutGroup

    config = Config.model_validate(
        {
            "run": {"name": "x"},
            "model": {"tiny": {}},
            "data": {"train": "unused"},
            "rewards": {"default": [{"path": "tests.data.looking_reward:REWARD"}]},
        }
    )
    sample = toy.choice_sample("s", pictures[1:2])
    prompt = replace(toy.text_prompt("s"), sample=sample)
    group = RolloutGroup(prompt=prompt, rollouts=(toy.rollout([1], text="120"), toy.rollout([1], text="56")))
    with build.build_scorer(config, [sample]) as scorer:
        [scored], _ = scorer.score([group])
    assert scored.totals == (1.0, 0.0)
