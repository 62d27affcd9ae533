"""What holds for every catalogue entry: range, gold, empty, determinism, hostile completions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.errors import ConfigError, MmrlError
from mmrl.rewards.catalog import REWARDS, USUAL, reward, score
from mmrl.rewards.gold import gold_answer, gold_completion
from mmrl.types import Completion, MediaView, Sample, Score
from tests.rewards.cases import SAMPLES, samples_for
from tests.rewards.world import said, sample

QUICK = [name for name in REWARDS if name not in ("judge", "math", "length_cosine")]


@pytest.mark.parametrize("name", [name for name in REWARDS if name not in ("judge", "steps")])  # steps: test_steps.py
def test_gold_scores_the_maximum(name: str) -> None:
    for s in samples_for(name):
        said_so = gold_completion(s, reasoning="I look closely." if name == "repetition" else "")
        completion = replace(said_so, token_count=0) if name == "length_cosine" else said_so
        assert score(name, completion, s).value == pytest.approx(REWARDS[name].high, abs=1e-6), s.answer


ANSWERED = [name for name in REWARDS if name != "judge" and (REWARDS[name].kind != "shaping" or name == "agreement")]


@pytest.mark.parametrize("name", ANSWERED)
def test_an_empty_completion_scores_the_minimum(name: str) -> None:
    for s in samples_for(name):
        for text in ("", "   ", "<answer></answer>", "<answer>", "I do not know."):
            assert score(name, Completion(text=text, token_count=0), s).value == REWARDS[name].low, text


@pytest.mark.parametrize("name", REWARDS)
def test_the_declared_range_is_that_of_the_default_options(name: str) -> None:
    entry = REWARDS[name]
    assert getattr(entry.function, "bounds", (entry.low, entry.high)) == (entry.low, entry.high)
    assert getattr(entry.function, "in_process", entry.in_process) == entry.in_process
    assert entry.low < entry.high
    assert len(entry.summary.splitlines()) == 1


@pytest.mark.parametrize("answer", SAMPLES)
def test_every_answer_type_has_a_usual_reward_that_accepts_it(answer: str) -> None:
    name = USUAL[answer]  # type: ignore[index]
    assert REWARDS[name].kind == "accuracy"
    for s in SAMPLES[answer]:  # type: ignore[index]
        REWARDS[name].verify(s, name=name)


FRAGMENTS = (
    "<answer> </answer> <think> </think> A B and C. [1,2,3,4] [10,20,110,70] (1,2) 4 -3.25 1e999 nan inf 3/0 ½ \x00 🙂 "
    '\u202e ٣ to 5:61 ```json {"bbox_2d":[0,0,1,1],"label":"cat"} \\frac{1}{0} % the man , 左 [[ ]] { } \ud800'
)
PIECES = st.sampled_from(FRAGMENTS.split(" "))
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map(" ".join))
WRAPPED = st.one_of(TEXTS, TEXTS.map(lambda t: f"<think>x</think><answer>{t}</answer>"))
VIEWS = st.sampled_from([(), (MediaView(width=640, height=480, spoken_width=1000, spoken_height=1000),)])


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(text=WRAPPED, views=VIEWS, data=st.data())
def test_any_completion_scores_in_range_and_always_the_same(
    name: str, text: str, views: tuple, data: st.DataObject
) -> None:
    s = data.draw(st.sampled_from(samples_for(name)))
    entry = REWARDS[name]
    completion = Completion(text=text, token_count=len(text), views=views)
    first = entry.function(completion, s)
    assert entry.low <= first.value <= entry.high
    assert entry.function(completion, s) == first
    assert isinstance(entry.checked(first), Score)
    json.dumps(dict(first.details), allow_nan=False)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=WRAPPED, s=st.sampled_from(samples_for("math")))
def test_mathematics_never_raises(text: str, s: Sample) -> None:
    assert REWARDS["math"].function(Completion(text=text), s).value in (0.0, 1.0)


def hostile(size: int) -> dict[str, str]:
    """Completions of `size` characters that are meant to hurt."""
    inside = {
        "letters": "A",
        "digits": "9",
        "spaces": " ",
        "brackets": "[",
        "braces": "{",
        "pairs": "[1,2,3,",
        "boxes": "[1,2,3,4],",
        "points": "(1,2),",
        "words": "word ",
        "commas": "1, ",
        "thousands": "1,000",
        "latex": "\\frac{1}{",
        "powers": "9^",
        "signs": "- -",
        "colons": "1:1:",
        "spans": "1 to 2 ",
        "unicode": "Ω½ﷺ",
        "and": "one hundred and ",
        "newlines": "\n",
        "labels": '{"label": "',
    }
    made = {key: f"<think>x</think><answer>{(unit * (size // len(unit)))}</answer>" for key, unit in inside.items()}
    made["open tags"] = "<answer>" * (size // 8)
    made["closing tags"] = "</answer>" * (size // 9)
    made["both tags"] = "<answer>A</answer>" * (size // 18)
    made["thinks"] = "<think>" * (size // 7) + "<answer>A</answer>"
    made["sentences"] = "The answer is A. " * (size // 17) + "<answer>B</answer>"
    words = " ".join(f"{n:x}ational" for n in range(size // 11))
    made["different words"] = f"<answer>{words[:size]}</answer>"
    made["no spaces"] = "x" * size
    return made


HOSTILE = hostile(1_000_000)
# Below the lengths at which answers are refused, so that the parsers have to read them.
SMALL_ONES = {f"{size} {kind}": text for size in (290, 1_900, 5_800, 18_000) for kind, text in hostile(size).items()}


@pytest.mark.parametrize("name", [n for n in REWARDS if n not in ("judge", "length_cosine")])
def test_a_hostile_megabyte_is_scored_in_bounded_time(name: str) -> None:
    """The bound is 50 ms on a quiet core; the test allows three times that of processor time on a shared one, best
    of three.

    Mathematics is bounded for long completions only; it has a process that can be killed for the others.
    """
    s = samples_for(name)[0]
    function = REWARDS[name].function
    prepare = getattr(function, "prepare", None)
    if prepare is not None:
        prepare()
    for kind, text in (HOSTILE if name == "math" else {**HOSTILE, **SMALL_ONES}).items():
        completion = Completion(text=text, token_count=10)
        best = min(_seconds(lambda: function(completion, s)) for _ in range(3))  # noqa: B023 - called at once
        assert best < 0.150, f"{name} took {best:.3f} s on {kind}"


def _seconds(call) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


@pytest.mark.parametrize("name", [name for name in REWARDS if REWARDS[name].answers])
def test_a_sample_of_another_answer_type_raises(name: str) -> None:
    wrong = next(s for answer, found in SAMPLES.items() if answer not in REWARDS[name].answers for s in found)
    with pytest.raises(MmrlError, match=f"{name}.*type"):
        score(name, said("A"), wrong)
    with pytest.raises(MmrlError, match="type"):
        REWARDS[name].function(said("A"), wrong)


def test_coordinates_are_compared_in_one_space() -> None:
    view = MediaView(width=640, height=480, spoken_width=1000, spoken_height=1000)
    for s in (sample("box", (64, 48, 320, 240)), sample("box", (0.1, 0.1, 0.5, 0.5), space="unit")):
        assert gold_answer(s, (view,)) == "[100, 100, 500, 500]"
        assert score("iou", gold_completion(s, (view,)), s).value == pytest.approx(1.0)
        assert score("point_in_box", Completion(text="<answer>[300, 300]</answer>", views=(view,)), s).value == 1.0
    s = sample("point", (320, 240))
    assert score("point_distance", gold_completion(s, (view,)), s).value == pytest.approx(1.0)


def test_names_and_options_that_do_not_exist_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'choice'"):
        reward("chioce")
    with pytest.raises(ConfigError, match="Did you mean 'tolerance'"):
        reward("number", tolerence=0.1)
    with pytest.raises(ConfigError, match="must be a number"):
        reward("number", tolerance="much")
    with pytest.raises(ConfigError, match="strict"):
        reward("format", mode="loose")


def test_importing_the_catalogue_loads_no_heavy_package() -> None:
    heavy = ["torch", "transformers", "numpy", "scipy", "nltk", "rapidfuzz", "math_verify", "sympy", "mmrl.config"]
    code = f"import sys, json, mmrl.rewards.build; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []


def test_the_documentation_lists_the_catalogue_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{name}` | {', '.join(entry.answers) or 'any'} | {entry.low:g}…{entry.high:g} | {entry.summary} |"
        for name, entry in REWARDS.items()
    ]
    assert rows == expected
