"""What a reward that asks for frames is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmrl.data.images import BrokenMedia
from mmrl.data.pictures import pictures_of
from mmrl.types import Media, MediaView
from tests import toy
from tests.clips import number_of, write_clip


def test_images_and_listed_frames_in_order(pictures: list[Path]) -> None:
    frames = Media(type="frames", paths=(str(pictures[2]), str(pictures[1])), fps=1.0)
    sample = toy.choice_sample("s", pictures[:1])
    sample = replace(sample, media=(*sample.media, frames))
    assert [picture.size for picture in pictures_of(sample)] == [(56, 56), (60, 200), (120, 90)]


def test_the_frames_a_model_saw_and_no_others(tmp_path: Path) -> None:
    media = Media(type="video", path=str(write_clip(tmp_path / "a.mp4", 40)))
    sample = replace(toy.choice_sample("s"), media=(media,))
    view = MediaView(width=96, height=64, spoken_width=96, spoken_height=64, frames=(3, 17, 18, 39))
    shown = pictures_of(sample, (view,))
    assert [number_of(np.asarray(frame)) for frame in shown] == [3, 17, 18, 39]
    assert {(frame.mode, frame.size) for frame in shown} == {("RGB", (96, 64))}


def test_without_a_model_a_clip_gives_two_frames_a_second(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 40))  # 5 s at 8 a second; from the first frame to the last 4.875 s

    def numbers(**part: float) -> list[int]:
        media = Media(type="video", path=path, **part)  # type: ignore[arg-type]
        return [number_of(np.asarray(f)) for f in pictures_of(replace(toy.choice_sample("s"), media=(media,)))]

    assert numbers() == [0, 4, 9, 13, 17, 22, 26, 30, 35, 39]  # 10 frames, 4.33 apart
    assert numbers(start=1.0, end=2.0) == [8, 11, 13, 16]  # at least four: 8, 10.67, 13.33, 16
    with pytest.raises(BrokenMedia, match="no frame from 9 s"):
        numbers(start=9.0)


def test_a_broken_clip_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"nothing of the kind")
    sample = replace(toy.choice_sample("s"), media=(Media(type="video", path=str(tmp_path / "clip.mp4")),))
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
