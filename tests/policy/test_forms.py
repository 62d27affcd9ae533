"""The prompt modes: what they ask for, that their own targets keep their form, and that answers are found in them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from mmrl.config.load import load_config
from mmrl.config.schema import PromptConfig
from mmrl.errors import ConfigError
from mmrl.policy.forms import FORMS, Mode, question_text, target_text
from mmrl.rewards.answer import find_answer
from mmrl.rewards.format import Format
from mmrl.types import Answer, Completion, Sample
from tests import toy

WORD = Sample(id="w", task="words", question="Where is the sink?", answer=Answer(type="text", value="left"))
NUMBER = Sample(id="n", task="numbers", question="How far is it?", answer=Answer(type="number", value=47.9, unit="m"))


@pytest.mark.parametrize("mode", FORMS)
@pytest.mark.parametrize("sample", [WORD, NUMBER, toy.choice_sample("c")], ids=lambda s: s.id)
def test_a_target_keeps_its_form_and_its_answer_is_found(mode: Mode, sample: Sample) -> None:
    form, target = FORMS[mode], target_text(sample, mode, "It is near the door.")
    value = sample.answer.value
    assert find_answer(target, form.answer_tag).valid == (value if isinstance(value, str) else f"{value:g}")
    if form.tags:
        assert Format(tags=form.tags)(Completion(text=target), sample).value == 1.0
    asked = question_text(sample, mode)
    assert all(f"<{tag}></{tag}>" in asked for tag in form.tags)
    assert form.tags or "<" not in asked


def test_vsgrpo_s_modes_ask_for_a_short_answer() -> None:
    assert question_text(WORD, "vanilla").endswith("Reply with an answer of one or two words and nothing else.")
    assert question_text(NUMBER, "observe").endswith("Then give the number inside <answer></answer>.")
    assert "step by step" in question_text(WORD, "think")


def test_empty_and_repeated_tags_earn_nothing_in_observe_mode() -> None:
    reward = Format(tags=FORMS["observe"].tags)
    for text in (
        "<observe></observe><answer>left</answer>",
        "<observe> </observe><answer>left</answer>",
        "<observe>a</observe><observe>b</observe><answer>left</answer>",
        "<think>a</think><answer>left</answer>",
    ):
        assert reward(Completion(text=text), WORD).value == 0.0


def test_config_and_code_know_the_same_modes() -> None:
    assert set(get_args(PromptConfig.model_fields["mode"].annotation)) == set(FORMS) == set(get_args(Mode))


BASE = "run: {name: mini}\nmodel: {tiny: {}}\ndata: {recipe: digits}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "prompt: {mode: observe}\nrewards: {default: [{name: text_exact}, {name: format}]}",
            "tags: [observe, answer]",
        ),
        ("prompt: {mode: vanilla}\nrewards: {default: [{name: number}]}", 'options: {answer_tag: ""}'),
        (
            'prompt: {mode: vanilla}\nrewards: {default: [{name: mra, options: {answer_tag: ""}}, {name: format}]}',
            "format never pays",
        ),
    ],
)
def test_rewards_that_do_not_fit_the_mode_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(BASE + text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert words in str(caught.value)


def test_vanilla_with_fitting_rewards_is_a_config(tmp_path: Path) -> None:
    rewards = 'prompt: {mode: vanilla}\nrewards: {default: [{name: symmetric_relative, options: {answer_tag: ""}}]}'
    (tmp_path / "c.yaml").write_text(BASE + rewards)
    assert load_config(tmp_path / "c.yaml").prompt.mode == "vanilla"
