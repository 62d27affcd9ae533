"""Samples become prompts: placeholders expanded, pictures once, broken ones dropped, defects raised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.errors import DataError
from mmrl.policy.forms import question_text, target_text
from mmrl.policy.render import Renderer
from mmrl.types import Answer
from tests import toy


@pytest.fixture
def renderer(tiny_model: toy.LoadedModel) -> Renderer:
    return Renderer(tiny_model.processor, tiny_model.policy.family, tiny_model.policy.config)


def test_slots_hold_exactly_the_placeholders(
    renderer: Renderer, pictures: list[Path], tiny_model: toy.LoadedModel
) -> None:
    [prompt], _ = renderer.render([toy.choice_sample("two", pictures[:2])])
    placeholder = tiny_model.policy.config.image_token_id
    slots = [i for first, stop in prompt.media_slots for i in range(first, stop)]
    assert [i for i, token in enumerate(prompt.token_ids) if token == placeholder] == slots
    assert prompt.vision is not None
    assert [stop - first for first, stop in prompt.media_slots] == [t * h * w // 4 for t, h, w in prompt.vision.grids]


def test_expansion_is_the_processor_s_own(
    renderer: Renderer, pictures: list[Path], tiny_model: toy.LoadedModel
) -> None:
    from PIL import Image

    [prompt], _ = renderer.render([toy.choice_sample("two", pictures[:2])])
    theirs = tiny_model.processor(text=[prompt.text], images=[Image.open(p) for p in pictures[:2]], return_tensors="pt")
    assert tuple(theirs["input_ids"][0].tolist()) == prompt.token_ids
    assert prompt.vision is not None
    assert (theirs["pixel_values"] - prompt.vision.patches).abs().max() == 0


def test_media_go_where_the_marks_are(renderer: Renderer, pictures: list[Path]) -> None:
    marked = toy.choice_sample("m", pictures[:2], question="Is <image> like <image>?")
    [prompt], _ = renderer.render([marked])
    vision = "<|vision_start|><|image_pad|><|vision_end|>"
    assert f"Is {vision} like {vision}?" in prompt.text


def test_views_convert_between_original_and_resized_pixels(renderer: Renderer, pictures: list[Path]) -> None:
    [prompt], _ = renderer.render([toy.choice_sample("v", [pictures[1]])])  # 120 × 90
    view = prompt.views[0]
    assert (view.width, view.height) == (120, 90)
    assert (view.spoken_width, view.spoken_height) == (112, 84)
    assert view.to_spoken(120, 90) == (112, 84)
    assert view.to_original(*view.to_spoken(33.0, 44.0)) == pytest.approx((33.0, 44.0))


def test_a_picture_is_preprocessed_once(renderer: Renderer, pictures: list[Path]) -> None:
    sample = toy.choice_sample("once", pictures[:2])
    [first], _ = renderer.render([sample])
    [again], _ = renderer.render([sample])
    assert again is first
    assert renderer.images_preprocessed == 2


def test_the_cache_forgets_the_oldest_beyond_its_bytes(tiny_model: toy.LoadedModel, pictures: list[Path]) -> None:
    policy = tiny_model.policy
    renderer = Renderer(tiny_model.processor, policy.family, policy.config, cache_bytes=100_000)
    # one picture of 56 × 56 takes 75,264 bytes
    samples = [toy.choice_sample("s0", [pictures[0]]), toy.choice_sample("s1", [pictures[3]])]
    renderer.render(samples)
    renderer.render(samples[1:])
    assert renderer.images_preprocessed == 2
    renderer.render(samples[:1])
    assert renderer.images_preprocessed == 3


def test_a_broken_picture_is_dropped_with_its_reason(renderer: Renderer, pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "cut.png"
    broken.write_bytes(pictures[1].read_bytes()[:2000])
    prompts, dropped = renderer.render([toy.choice_sample("bad", [broken]), toy.choice_sample("good", [pictures[0]])])
    assert [p.sample.id for p in prompts] == ["good"]
    assert [(d.sample_id, d.stage, d.reason) for d in dropped] == [("bad", "media", "truncated image")]


def test_a_missing_picture_is_a_defect_of_the_data(renderer: Renderer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        renderer.render([toy.choice_sample("x", [tmp_path / "gone.png"])])


def test_the_model_s_own_vision_marks_in_a_question_are_refused(renderer: Renderer, pictures: list[Path]) -> None:
    with pytest.raises(DataError, match=r"'x'.*2 placeholders for 1 media items"):
        renderer.render([toy.choice_sample("x", pictures[:1], question="What is <|image_pad|>?")])


def test_question_text_lists_options_and_asks_for_the_form() -> None:
    text = question_text(toy.choice_sample("q"), "think_answer")
    assert text.splitlines() == [
        "Which one?",
        "Options:",
        "A. red",
        "B. green",
        "C. blue",
        "D. grey",
        "Think inside <think></think>, then give the letter inside <answer></answer>.",
    ]


def test_targets_are_in_the_asked_form() -> None:
    sample = toy.choice_sample("q", answer="C")
    target = target_text(sample, "think_answer", "It is {answer}.")
    assert target == "<think>It is blue.</think><answer>C</answer>"
    assert target_text(sample, "answer", "ignored") == "<answer>C</answer>"
    with pytest.raises(DataError, match=r"'q'.*'box'"):
        target_text(replace(sample, answer=Answer(type="box", value=(0, 0, 1, 1))), "answer", "")
