"""Clips and listed frames in prompts: tokens, grids, pixels and times, alone and mixed with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmrl.data.pictures import pictures_of
from mmrl.data.video import ClipReader
from mmrl.data.video_plan import ClipRules
from mmrl.errors import DataError
from mmrl.policy.render import Renderer
from mmrl.policy.vision_check import check_vision
from mmrl.types import Media, Prompt, Sample
from tests import toy
from tests.clips import number_of, numbered, write_clip

RULES = ClipRules(min_pixels=56 * 56, max_pixels=84 * 84)


@pytest.fixture
def renderer(tiny_model: toy.LoadedModel) -> Iterator[Renderer]:
    renderer = Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config, rules=RULES)
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 seconds, 24 numbered frames of 96 × 64."""
    return write_clip(tmp_path_factory.mktemp("clips") / "a.mp4")


def sample(*media: Media, question: str = "What happens?") -> Sample:
    return replace(toy.choice_sample("s", question=question), media=media)


def video(path: Path, **options: float) -> Media:
    return Media(type="video", path=str(path), **options)  # type: ignore[arg-type]


def rendered(renderer: Renderer, one: Sample) -> Prompt:
    [prompt], dropped = renderer.render([one])
    assert not dropped
    return prompt


def test_a_clip_becomes_a_run_of_tokens_with_its_frames_recorded(
    renderer: Renderer, clip: Path, tiny_model: toy.LoadedModel
) -> None:
    prompt = rendered(renderer, sample(video(clip)))
    # 96 × 64 holds at least 3,136 and at most 7,056 pixels: 6,144 do, rounded to multiples of 28: 84 × 56, 6 × 4
    # patches. Six frames are three grid times; four patches become one token: 3 · 4 · 6 / 4 = 18.
    assert prompt.vision is not None
    assert prompt.vision.grids == ((3, 4, 6),)
    assert prompt.vision.kinds == ("video",)
    [(first, stop)] = prompt.media_slots
    assert stop - first == 18
    assert set(prompt.token_ids[first:stop]) == {tiny_model.policy.config.video_token_id}
    assert prompt.text.count("<|vision_start|><|video_pad|><|vision_end|>") == 1
    # 6 frames for 24 at 8 a second: two a second, so a pair, one grid time, is a second.
    assert prompt.vision.seconds_per_grid == (1.0,)
    view = prompt.views[0]
    assert view.frames == (0, 5, 9, 14, 18, 23)
    assert view.seconds == pytest.approx([i / 8 for i in view.frames])
    assert (view.reader, view.reader_note) == ("decord", "")
    assert (view.width, view.height, view.spoken_width, view.spoken_height) == (96, 64, 84, 56)


def test_the_prompt_is_the_processor_s_own(renderer: Renderer, clip: Path, tiny_model: toy.LoadedModel) -> None:
    prompt = rendered(renderer, sample(video(clip)))
    frames = pictures_of(prompt.sample, prompt.views)
    stacked = torch.stack([torch.from_numpy(np.asarray(frame).copy()) for frame in frames])
    theirs = tiny_model.processor(
        text=[prompt.text],
        videos=[stacked.permute(0, 3, 1, 2)],
        do_sample_frames=False,
        size={"shortest_edge": 56 * 56, "longest_edge": 84 * 84},
        return_tensors="pt",
    )
    assert tuple(theirs["input_ids"][0].tolist()) == prompt.token_ids
    assert prompt.vision is not None
    assert torch.equal(theirs["video_grid_thw"], torch.tensor(prompt.vision.grids))
    # The processor resizes floats, qwen-vl-utils whole numbers: half a step of 255, over the channel's deviation.
    assert (theirs["pixel_values_videos"] - prompt.vision.patches).abs().max() < 2 / 255 / 0.26


def test_pictures_clips_and_frames_mix_in_the_order_of_their_marks(
    renderer: Renderer, clip: Path, pictures: list[Path], tiny_model: toy.LoadedModel
) -> None:
    image = Media(type="image", path=str(pictures[1]))
    frames = Media(type="frames", paths=tuple(str(p) for p in (pictures[0], pictures[0], pictures[0])), fps=3.0)
    question = "First <video>, then <image>, then <video>: which?"
    prompt = rendered(renderer, sample(video(clip, end=1.0), image, frames, question=question))
    pads = [piece.split("<|vision_end|>")[0] for piece in prompt.text.split("<|vision_start|>")[1:]]
    assert pads == ["<|video_pad|>", "<|image_pad|>", "<|video_pad|>"]
    assert prompt.vision is not None
    assert prompt.vision.kinds == ("video", "image", "video")
    config = tiny_model.policy.config
    of_kind = {"video": config.video_token_id, "image": config.image_token_id}
    for (first, stop), kind, grid in zip(prompt.media_slots, prompt.vision.kinds, prompt.vision.grids, strict=True):
        assert set(prompt.token_ids[first:stop]) == {of_kind[kind]}
        assert stop - first == grid[0] * grid[1] * grid[2] // 4
    # Three listed frames are two grid times, the last frame twice; a pair at 3 a second is 2/3 s.
    assert prompt.vision.grids[2][0] == 2
    assert prompt.vision.seconds_per_grid[1:] == pytest.approx((0.0, 2 / 3))
    assert [view.frames for view in prompt.views] == [(0, 3, 5, 8), (), (0, 1, 2)]
    assert prompt.views[2].seconds == pytest.approx((0, 1 / 3, 2 / 3))
    # Each item's patches are what it gives alone.
    at = 0
    for item in prompt.sample.media:
        alone = rendered(renderer, sample(item)).vision
        assert alone is not None
        assert torch.equal(prompt.vision.patches[at : at + len(alone.patches)], alone.patches)
        at += len(alone.patches)


def test_listed_frames_equal_the_clip_they_make(renderer: Renderer, tmp_path: Path, clip: Path) -> None:
    prompt = rendered(renderer, sample(video(clip, fps=8.0)))
    paths = []
    for i, frame in enumerate(pictures_of(prompt.sample, prompt.views)):
        paths.append(tmp_path / f"{i:02}.png")
        frame.save(paths[-1])
    assert len(paths) == 24
    listed = rendered(renderer, sample(Media(type="frames", paths=tuple(map(str, paths)), fps=8.0))).vision
    whole = prompt.vision
    assert listed is not None
    assert whole is not None
    assert torch.equal(listed.patches, whole.patches)
    assert (listed.grids, listed.digests) == (whole.grids, whole.digests)
    assert listed.seconds_per_grid == whole.seconds_per_grid == (0.25,)


def test_broken_media_of_every_kind_drop_their_samples_alone(
    renderer: Renderer, tmp_path: Path, clip: Path, pictures: list[Path]
) -> None:
    short = tmp_path / "short.mp4"
    short.write_bytes(clip.read_bytes()[:-600])
    uneven = Media(type="frames", paths=(str(pictures[0]), str(pictures[1])), fps=1.0)
    samples = [
        replace(sample(video(short)), id="cut"),
        replace(sample(uneven), id="uneven"),
        replace(sample(video(clip, start=9.0)), id="late"),
        replace(sample(video(clip)), id="sound"),
    ]
    prompts, dropped = renderer.render(samples)
    assert [p.sample.id for p in prompts] == ["sound"]
    assert {d.sample_id: d.reason for d in dropped} == {
        "cut": "truncated video",
        "uneven": "frames of different sizes",
        "late": "start beyond the end",
    }
    assert all(d.stage == "media" and ("mp4" in d.detail or "png" in d.detail) for d in dropped)


def test_a_clip_pyav_had_to_read_is_recorded_as_such(renderer: Renderer, tmp_path: Path) -> None:
    prompt = rendered(renderer, sample(video(write_clip(tmp_path / "old.avi", 24))))
    assert prompt.views[0].reader == "pyav"
    assert "decord" in prompt.views[0].reader_note


def test_marks_that_do_not_fit_the_media_are_refused(renderer: Renderer, clip: Path, pictures: list[Path]) -> None:
    image = Media(type="image", path=str(pictures[0]))
    with pytest.raises(DataError, match=r"'s'.*marks image, video.*lists video, image"):
        renderer.render([sample(video(clip), image, question="<image> or <video>?")])
    with pytest.raises(DataError, match=r"'s'.*placeholders for 1 media"):
        renderer.render([sample(video(clip), question="What is <|video_pad|>?")])


def test_a_family_of_pictures_refuses_clips_by_name(tiny_model: toy.LoadedModel, clip: Path) -> None:
    family = replace(tiny_model.policy.family, media=("image",))
    with pytest.raises(DataError, match=rf"{clip.name}.*{family.name} are shown pictures only"):
        Renderer(tiny_model.processor, family, tiny_model.policy.config).render([sample(video(clip))])


# ── what was seen, for rewards and people ──


def test_a_reward_sees_the_frames_the_model_saw(renderer: Renderer, clip: Path, pictures: list[Path]) -> None:
    image = Media(type="image", path=str(pictures[2]))
    prompt = rendered(renderer, sample(image, video(clip, max_frames=4)))
    shown = pictures_of(prompt.sample, prompt.views)
    assert shown[0].size == (60, 200)
    assert [frame.size for frame in shown[1:]] == [(96, 64)] * 4
    assert [number_of(np.asarray(frame)) for frame in shown[1:]] == list(prompt.views[1].frames) == [0, 8, 15, 23]


def test_listed_frames_beyond_the_bound_are_not_shown(tiny_model: toy.LoadedModel, tmp_path: Path) -> None:
    paths = []
    for i in range(9):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(numbered(i)).save(paths[-1])
    rules = replace(RULES, max_frames=4)
    renderer = Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config, rules=rules)
    prompt = rendered(renderer, sample(Media(type="frames", paths=tuple(map(str, paths)), fps=2.0)))
    assert prompt.views[0].frames == (0, 3, 5, 8)
    assert prompt.views[0].seconds == (0.0, 1.5, 2.5, 4.0)
    assert len(pictures_of(prompt.sample, prompt.views)) == 4
    # Four frames over four seconds: one each 8/3 files, 2 / (8/3) = 0.75 a second, so a pair takes 2.67 s.
    assert prompt.vision is not None
    assert prompt.vision.seconds_per_grid == pytest.approx((8 / 3,))


# ── tokens and features held against each other ──


def test_a_prompt_whose_tokens_and_features_differ_names_its_sample(renderer: Renderer, clip: Path) -> None:
    prompt = rendered(renderer, sample(video(clip)))
    check_vision(prompt, merge=2)
    assert prompt.vision is not None
    [(first, stop)] = prompt.media_slots
    for wrong, words in [
        (replace(prompt, media_slots=((first, stop - 1),)), "17 visual tokens for 18 features"),
        (replace(prompt, media_slots=()), "0 visual tokens for 18 features"),
        (replace(prompt, vision=replace(prompt.vision, patches=prompt.vision.patches[:-4])), "68 patches"),
        (replace(prompt, vision=None), "18 visual tokens and no pixels"),
        (replace(prompt, token_ids=prompt.token_ids[: stop - 1]), "not in it one by one"),
        (replace(prompt, vision=replace(prompt.vision, kinds=())), "1 grids for 0 media items"),
    ]:
        with pytest.raises(DataError, match=f"'s'.*{words}"):
            check_vision(wrong, merge=2)


# ── a decoder that hangs ──


def test_a_clip_that_hangs_costs_its_sample_and_no_other(tiny_model: toy.LoadedModel, tmp_path: Path) -> None:
    clips = [video(write_clip(tmp_path / name, 8)) for name in ("a.mp4", "hangs.mp4", "b.mp4")]
    reader = ClipReader(deadline_seconds=0.5, readers={"slow": "tests.data.odd_readers:hang_on_some"})
    family = tiny_model.policy.family
    renderer = Renderer(tiny_model.processor, family, tiny_model.policy.config, rules=RULES, clips=reader)
    samples = [replace(sample(item), id=Path(item.path or "").stem) for item in clips]
    prompts, dropped = renderer.render(samples)
    assert [p.sample.id for p in prompts] == ["a", "b"]
    assert [(d.sample_id, d.reason) for d in dropped] == [("hangs", "decoding timed out")]
    renderer.close()
