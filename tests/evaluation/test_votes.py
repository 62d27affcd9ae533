"""What a completion votes for: texts that give one answer are one candidate, texts that give two are two."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mmrl.evaluation.evaluate import evaluate
from mmrl.evaluation.result import EvaluationSettings
from mmrl.evaluation.votes import vote_of
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.types import Answer, AnswerType, Completion, Sample
from tests.traces.fakes import render


def sample_of(kind: AnswerType, value: Any, *choices: str, unit: str | None = None, task: str = "t") -> Sample:
    return Sample(id="one", task=task, question="?", choices=choices, answer=Answer(type=kind, value=value, unit=unit))


def vote(answer: str, sample: Sample, **more: Any) -> str | None:
    return vote_of(Completion(text=f"<think>so</think><answer>{answer}</answer>"), sample, **more)


CUPS = sample_of("choice", "B", "plate", "cup", "fork")
LETTERS = sample_of("choices", ("A", "C"), "plate", "cup", "fork")
METRES = sample_of("number", 1.5, unit="m")


@pytest.mark.parametrize(
    ("sample", "groups"),
    [
        (
            CUPS,
            [
                ["B", "(B)", "B. cup", "b", "cup", "The answer is B"],
                ["A", "plate"],
                ["A or B"],
                ["no idea", "No  idea"],
            ],
        ),
        (LETTERS, [["A, C", "C, A", "AC", "plate and fork"], ["A"], ["A, B"]]),
        (sample_of("number", 12.0), [["12", "12.0", "twelve", "12 things"], ["13"], ["12 or 13"]]),
        (sample_of("number", 0.5), [["1/2", "0.5", "\\frac{1}{2}", "50%"], ["5"]]),
        (METRES, [["1.5", "1.5 m", "150 cm"], ["150"], ["1.5 kg"]]),
        (sample_of("text", "the cat"), [["The cat.", "the  cat"], ["a cat"]]),
        (sample_of("math", "x+1"), [["$x + 1$", "x+1", "X+1."], ["1+x"], ["1"], ["x+2"]]),
        (
            sample_of("math", "0.5"),
            [["1/2", "0.5", "$0.50$", "50%", "\\frac{1}{2}"], ["-1/2", "−0.5"], ["2"], ["2+2"], ["1,000"]],
        ),
        (sample_of("math", "(1,2)"), [["(1,2)", "(1, 2)"], ["[1,2]"]]),
        (
            sample_of("box", (0, 0, 9, 9)),
            [["[0, 0, 9, 9]", "(0,0),(9,9)", '{"bbox_2d": [0.0, 0, 9, 9]}'], ["[0, 0, 9, 8]"]],
        ),
        (sample_of("boxes", ((0, 0, 9, 9),)), [["[[0,0,9,9],[1,1,2,2]]", "[[1,1,2,2],[0,0,9,9]]"], ["[]", "None"]]),
        (sample_of("point", (1, 2)), [["[1, 2]", "(1.0, 2)"], ["[2, 1]"]]),
        (sample_of("span", (4.0, 8.0)), [["4 to 8", "0:04 - 0:08", "[4.0, 8.0]"], ["4 to 9"]]),
        (sample_of("spans", ((1.0, 2.0), (4.0, 8.0))), [["1 to 2, 4 to 8", "[[4, 8], [1, 2]]"], ["4 to 8"]]),
    ],
)
def test_one_answer_is_one_candidate(sample: Sample, groups: list[list[str]]) -> None:
    votes = []
    for group in groups:
        found = {vote(answer, sample) for answer in group}
        assert len(found) == 1, found
        votes.append(found.pop())
    assert None not in votes
    assert len(set(votes)) == len(votes)


def test_without_an_answer_that_counts_there_is_no_vote() -> None:
    for text in ("B", "<answer>B", "<answer></answer>", "<answer>A</answer><answer>B</answer>"):
        assert vote_of(Completion(text=text), CUPS) is None
    assert vote_of(Completion(text="B"), CUPS, tag="") == "B"
    assert vote_of(Completion(text="<box>B</box>"), CUPS, tag="box") == "B"


@pytest.mark.parametrize(
    "kind", ["choice", "choices", "number", "text", "math", "box", "boxes", "point", "span", "spans"]
)
def test_walls_of_text_vote_in_no_time(kind: AnswerType) -> None:
    value = {"choice": "A", "choices": ("A",), "number": 1.0, "text": "a", "math": "1"}.get(kind, (1.0, 2.0, 3.0, 4.0))
    for wall in ("1" * 200_000 + "x", "[1,1,2,2]{" * 20_000, "A, B or " * 20_000, "-" * 100_000):
        started = time.perf_counter()
        vote(wall, sample_of(kind, value, "one", "two"))
        assert time.perf_counter() - started < 2.0


def test_an_order_is_an_answer_where_it_is_asked_for() -> None:
    assert vote("C, A", LETTERS, ordered=True) == vote("C then A", LETTERS, ordered=True) == "C, A"
    assert vote("A, C", LETTERS, ordered=True) == "A, C"


def majority(sample: Sample, answers: list[str], reward: str) -> float:
    settings = EvaluationSettings(samples_per_prompt=len(answers), ks=(1, len(answers)), max_tokens=999, resamples=50)
    with RewardScorer(reward_uses({"default": [{"name": reward}]})) as scorer:
        result = evaluate(
            [sample],
            render=render,
            engine=ScriptedEngine(lambda _, index: f"<think>way {index}</think><answer>{answers[index]}</answer>"),
            scorer=scorer,
            settings=settings,
        )
    return result.overall.majority_at[len(answers)].value


def test_majority_of_answers_in_several_spellings_by_hand() -> None:
    # B three times, each in another spelling; A twice, alike. By spelling A would win.
    assert majority(CUPS, ["A", "A", "B", "(B)", "B. cup"], "choice") == 1.0
    assert majority(sample_of("number", 12.0), ["7", "7", "12", "12.0", "twelve"], "number") == 1.0
    # Two and two: the vote is shared.
    assert majority(sample_of("number", 0.5), ["1/2", "0.5", "2", "2.0"], "number") == 0.5


def test_majority_of_orders_by_hand() -> None:
    """The same letters in another order are the same answer to `multi_choice`, and another to `ordering`."""
    orders = ["A, C", "A, C", "C, A", "C, A", "C, A"]
    assert majority(LETTERS, orders, "multi_choice") == 1.0
    assert majority(LETTERS, orders, "ordering") == 0.0
