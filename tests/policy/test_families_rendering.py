"""Every family's prompts, from real pictures and clips: its processor's token ids and pixels, clips in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from mmrl.config.schema import TinyModelConfig
from mmrl.data.images import load_image
from mmrl.data.video_plan import ClipRules
from mmrl.errors import DataError
from mmrl.policy.families import FAMILIES
from mmrl.policy.lfm2_vl import spell as spell_lfm2
from mmrl.policy.load import LoadedModel
from mmrl.policy.qwen3_vl import spell as spell_qwen3
from mmrl.policy.render import Renderer
from mmrl.policy.repeated import repeated_outputs
from mmrl.policy.spelling import ShownItem
from mmrl.policy.tiny import TINY
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.tensors import pad_rows
from mmrl.types import Answer, Media, Prompt, Sample
from tests import toy
from tests.clips import write_clip
from tests.policy.exactness import assert_equal_gradients, gradients, packed_outputs


def rendered(model: LoadedModel, *samples: Sample) -> list[Prompt]:
    small = ClipRules(min_pixels=4 * 32 * 32, max_pixels=8 * 32 * 32)
    renderer = Renderer(model.processor, model.policy.family, model.policy.config, rules=small)
    prompts, dropped = renderer.render(samples)
    renderer.close()
    assert not dropped
    return prompts


def clip_sample(id_: str, *media: Media) -> Sample:
    return Sample(id=id_, task="t", question="What?", answer=Answer(type="text", value="x"), media=media)


def test_config_and_code_know_the_same_families() -> None:
    assert set(get_args(TinyModelConfig.model_fields["family"].annotation)) == set(TINY) == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_become_what_the_family_s_processor_makes_of_them(
    family: str, family_models: dict[str, LoadedModel], pictures: list[Path]
) -> None:
    model = family_models[family]
    [prompt] = rendered(model, toy.choice_sample("p", pictures[:3]))
    images = [load_image(str(path)) for path in pictures[:3]]
    theirs: Any = model.processor(text=[prompt.text], images=images, return_tensors="pt")
    assert tuple(theirs["input_ids"][0].tolist()) == prompt.token_ids
    assert prompt.vision is not None
    pixels = theirs["pixel_values"]
    if family == "lfm2_vl":
        pixels = torch.cat([p[: int(m.sum())] for p, m in zip(pixels, theirs["pixel_attention_mask"], strict=True)])
    assert torch.equal(pixels, prompt.vision.patches)


def test_qwen3_vl_writes_the_time_before_each_frame() -> None:
    """Frames 0, 7, 14, 21, 28 of a file of 10 frames a second, two a grid time, the last one twice:
    the means of 0 and 0.7, of 1.4 and 2.1, of 2.8 and 2.8 seconds. A frame of 4 × 6 patches is 6 visual tokens.
    """
    item = ShownItem(
        kind="video", placeholder="<|video_pad|>", grid=(3, 4, 6), merge=2, frames=(0, 7, 14, 21, 28), frame_rate=10.0
    )
    mark = "<|vision_start|><|video_pad|><|vision_end|>"
    spelling = spell_qwen3(item)
    assert spelling.replaces == mark
    assert spelling.text == f"<0.3 seconds>{mark}<1.8 seconds>{mark}<2.8 seconds>{mark}"
    assert spelling.runs == (6, 6, 6)


def test_lfm2_vl_encloses_a_picture() -> None:
    spelling = spell_lfm2(ShownItem(kind="image", placeholder="<image>", grid=(1, 4, 6), merge=2))
    assert spelling.text == "<|image_start|><image><|image_end|>"
    assert spelling.runs == (6,)


def test_qwen3_vl_s_clip_is_its_processor_s_without_the_outer_marks(
    family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """transformers 5.19 leaves the chat template's marks around the whole clip; vLLM and its forerunners do not."""
    from transformers.video_utils import VideoMetadata

    model = family_models["qwen3_vl"]
    clip = write_clip(tmp_path / "clip.mp4", frames=24, fps=8)
    [prompt] = rendered(model, clip_sample("c", Media(type="video", path=str(clip), fps=2.0)))
    view, vision = prompt.views[0], prompt.vision
    assert vision is not None
    times, height, width = vision.grids[0]
    frames = torch.zeros(len(view.frames), 3, height * 16, width * 16, dtype=torch.uint8)
    metadata = VideoMetadata(total_num_frames=24, fps=8.0, frames_indices=list(view.frames))
    theirs = model.processor(
        text=[prompt.text],
        videos=[frames],
        video_metadata=[metadata],
        do_sample_frames=False,
        do_resize=False,
        return_tensors="pt",
    )
    config = model.policy.config
    ids: list[int] = theirs["input_ids"][0].tolist()
    ids.remove(config.vision_start_token_id)  # the first of them
    ids.reverse()
    ids.remove(config.vision_end_token_id)  # the last of them
    ids.reverse()
    assert tuple(ids) == prompt.token_ids
    assert len(prompt.media_slots) == times


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if "video" in family.media])
def test_clips_are_exact_from_file_to_log_probability(
    family: str, family_models: dict[str, LoadedModel], pictures: list[Path], tmp_path: Path
) -> None:
    """A real clip, listed frames and a picture in one batch: packed, repeated and the engine agree."""
    model = family_models[family]
    clip = write_clip(tmp_path / "clip.mp4", frames=24, fps=8)
    listed = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(listed):
        Image.new("RGB", (64, 64), (60 * i, 20, 90)).save(path)
    prompts = rendered(
        model,
        clip_sample("clip", Media(type="video", path=str(clip), fps=2.0)),
        clip_sample("frames", Media(type="frames", paths=tuple(map(str, listed)), fps=2.0)),
        clip_sample("both", Media(type="image", path=str(pictures[0])), Media(type="video", path=str(clip), fps=2.0)),
    )
    policy = model.policy
    groups = [toy.random_group(prompt, size=3, seed=i) for i, prompt in enumerate(prompts)]
    repeated = repeated_outputs(policy, groups)
    expected = gradients(policy, repeated)
    found = packed_outputs(policy, groups, budget=10_000, head_chunk=100)
    assert torch.allclose(found.logprobs, repeated.logprobs, atol=1e-5)
    assert_equal_gradients(gradients(policy, found), expected)
    engine = TransformersEngine(policy, model.processor.tokenizer, run_seed=0)
    sampled = engine.generate(prompts, Sampling(group_size=2, max_tokens=8), step=0)
    with torch.no_grad():
        said = repeated_outputs(policy, sampled).logprobs
    written = pad_rows([r.policy_logprobs for g in sampled for r in g.rollouts], said.shape[1])
    assert torch.allclose(written, said, atol=1e-4)


def test_a_family_without_video_refuses_it_by_name(family_models: dict[str, LoadedModel], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=8)
    with pytest.raises(DataError, match=r"lfm2_vl are shown pictures only"):
        rendered(family_models["lfm2_vl"], clip_sample("c", Media(type="video", path=str(clip))))


@pytest.mark.parametrize("family", FAMILIES)
def test_pixel_bounds_decide_the_number_of_visual_tokens(
    family: str, family_models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    """A picture of 640 × 480 within 16 visual tokens."""
    path = tmp_path / "large.png"
    Image.new("RGB", (640, 480), (10, 20, 30)).save(path)
    model = family_models[family]
    side = 28 if family in ("qwen2_vl", "qwen2_5_vl") else 32
    renderer = Renderer(model.processor, model.policy.family, model.policy.config, max_pixels=16 * side * side)
    [prompt], _ = renderer.render([toy.choice_sample("large", [path])])
    [(first, stop)] = prompt.media_slots
    assert 9 <= stop - first <= 16
