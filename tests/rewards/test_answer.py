"""The one extractor, and the format reward beside it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.errors import ConfigError
from mmrl.rewards.answer import find_answer, outside_answer, reasoning_text
from mmrl.rewards.catalog import score
from mmrl.rewards.format import Format
from mmrl.types import Sample
from tests.rewards.world import sample

S = sample("choice", "B")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>x</think><answer>B</answer>", "B"),
        ("<answer>\n B \n</answer> and more", "B"),
        ("<answer></answer>", ""),
        ("<answer>1 < 2 </b></answer>", "1 < 2 </b>"),
        ("<think>unclosed <answer>B</answer>", "B"),
        ("<answer>B</answer><think>afterwards</think>", "B"),
        ("B", None),
        ("<answer>B", None),
        ("B</answer>", None),
        ("</answer>B<answer>", None),
        ("<Answer>B</Answer>", None),
    ],
)
def test_the_answer_is_the_content_of_the_complete_block(text: str, answer: str | None) -> None:
    found = find_answer(text)
    assert (found.text, found.malformed) == (answer, "")
    assert found.valid == answer


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("<answer>A</answer><answer>B</answer>", "B"),
        ("<answer>A<answer>B</answer></answer>", "B"),
        ("<answer>A</answer> <answer>B", "A"),
        ("<answer><answer>A</answer>", "A"),
        ("<answer>A</answer></answer>", None),
        ("<think><answer>A</answer></think>", "A"),
        ("<answer>A</answer></think>", "A"),
        ("<answer><think>x</think>A</answer>", "<think>x</think>A"),
        ("<think>x<answer>A</think></answer>", "A</think>"),
    ],
)
def test_repeated_and_nested_tags_are_malformed_and_count_as_no_answer(text: str, last: str | None) -> None:
    found = find_answer(text)
    assert found.valid is None
    if last is not None:
        assert found.malformed
        assert found.text == last


def test_other_tags_and_no_tag() -> None:
    assert find_answer("<action>click</action>", "action").valid == "click"
    assert find_answer("  all of it ", "").valid == "all of it"


def test_the_reasoning_is_what_stands_before_the_answer() -> None:
    text = "<think>It barks.</think> Hm. <answer>B</answer> Bye."
    assert reasoning_text(text) == "It barks.  Hm."
    assert outside_answer(text) == "<think>It barks.</think> Hm.   Bye."


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["<answer>", "</answer>", "<think>", "</think>", "B", " "]), max_size=10).map("".join))
def test_whatever_is_strictly_well_formed_has_a_valid_answer(text: str) -> None:
    if Format().fault(text) == "":
        assert find_answer(text).valid
        assert Format(mode="lenient").fault(text) == ""


GOOD = "<think>it curls</think>\n<answer>B</answer>"


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        (GOOD, 1, 1),
        (f"  {GOOD}\n", 1, 1),
        (f"Well: {GOOD}", 0, 1),
        (f"{GOOD} Bye.", 0, 1),
        ("<think>x</think> so <answer>B</answer>", 0, 0),
        ("<think> </think><answer>B</answer>", 0, 0),
        ("<think>x</think><answer></answer>", 0, 0),
        ("<answer>B</answer><think>x</think>", 0, 0),
        ("<think>x</think><answer>B</answer><answer>B</answer>", 0, 0),
        ("<think>x<think>y</think></think><answer>B</answer>", 0, 0),
        ("<think>a</think><answer>x</answer> ... </answer>", 0, 0),
        ("<answer>B</answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_format_strict_and_lenient(text: str, strict: int, lenient: int) -> None:
    assert score("format", text, S).value == strict
    assert score("format", text, S, mode="lenient").value == lenient


def test_format_with_other_tags() -> None:
    assert score("format", "<observe>o</observe><answer>B</answer>", S, tags=["observe", "answer"]).value == 1.0
    assert score("format", "<answer>B</answer>", S, tags=["answer"]).value == 1.0
    assert score("format", GOOD, S, tags=["answer"]).value == 0.0
    assert score("format", "<a>1</a><b>2</b><c>3</c>", S, tags=["a", "b", "c"]).value == 1.0
    assert score("format", GOOD + "x", S).details["fault"] == "text after </answer>"
    for tags in ([], ["a", "a"], ["<a>"]):
        with pytest.raises(ConfigError):
            score("format", GOOD, S, tags=tags)


@pytest.mark.parametrize(
    ("name", "given", "text", "why"),
    [
        ("iou", sample("box", [1, 2, 3, 4]), "[1, 2, 3, 4]", "no complete <answer> block"),
        ("iou", sample("box", [1, 2, 3, 4]), "<answer> </answer>", "the answer is empty"),
        ("iou", sample("box", [1, 2, 3, 4]), "<answer>[3, 4, 1, 2]</answer>", "the answer is not one box"),
        ("iou", sample("box", [1, 2, 3, 4]), "<answer>a</answer><answer>b</answer>", "answer tags repeated"),
        ("mra", sample("number", 3, unit="m"), "<answer>a lot</answer>", "the answer is not one number in m, or in"),
        ("temporal_iou", sample("span", [1, 2]), "<answer>2 to 1</answer>", "the answer is not one span of time"),
        ("choice", S, "<answer>perhaps</answer>", "the answer is not one of the options"),
        ("wer", sample("text", "x"), "x", "no complete <answer> block"),
        ("count_boxes", sample("number", 2), "<answer>two</answer>", "the answer is not boxes"),
    ],
)
def test_a_completion_without_a_fitting_answer_is_told_why(name: str, given: Sample, text: str, why: str) -> None:
    found = score(name, text, given)
    assert found.value == 0
    assert found.details["fault"].startswith(why)
