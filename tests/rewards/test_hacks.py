"""Known ways to win without seeing score low, for every accuracy reward of the catalogue."""

from __future__ import annotations

import pytest

from mmrl.rewards.catalog import REWARDS, score
from mmrl.rewards.hacks import hacks, written, wrong_completion
from tests.rewards.cases import samples_for
from tests.rewards.world import sample

# Rewards that compare texts by similarity pay in part for a text that holds the gold one.
SIMILARITY = ("rouge", "wer", "edit_distance", "bmas", "text_exact")
SETS = ("iou_set", "spans_iou")
SOUND = [
    name
    for name, entry in REWARDS.items()
    if entry.kind == "accuracy" and name not in (*SIMILARITY, "count_boxes", "judge")
]


@pytest.mark.parametrize("name", SOUND)
def test_no_hack_is_worth_more_than_a_little(name: str) -> None:
    for s in samples_for(name):
        for trick, text in hacks(s).items():
            if trick.startswith("both answers") and name in SETS:
                continue  # a second box or span costs what a superfluous one costs; see below
            worth = REWARDS[name].unit(score(name, text, s).value)
            assert worth <= (0.3 if name == "giou" else 0.12), f"{trick}: {worth:.2f} for {text[:80]!r}"


@pytest.mark.parametrize("name", SIMILARITY)
def test_similarity_rewards_pay_little_for_tricks_with_tags_and_walls(name: str) -> None:
    s = sample("text", "the man opens the door", question="What does the man do?")
    tricks = hacks(s)
    for trick in (
        "answer tag repeated",
        "answer tags nested",
        "answer only inside the reasoning",
        "answer never closed",
    ):
        assert score(name, tricks[trick], s).value == 0.0, trick
    for trick in ("wall of words", "gold outside of the answer", "claims to be right"):
        assert score(name, tricks[trick], s).value < 0.35, trick


@pytest.mark.parametrize("name", SOUND)
def test_a_wrong_answer_is_worth_the_least(name: str) -> None:
    for s in samples_for(name):
        worth = REWARDS[name].unit(score(name, wrong_completion(s), s).value)
        assert worth <= (0.3 if name == "giou" else 0.0), s.answer


def test_format_refuses_every_trick_with_tags() -> None:
    s = sample("choice", "B")
    tricks = hacks(s)
    for trick in (
        "answer tag repeated",
        "answer tags nested",
        "answer only inside the reasoning",
        "tags injected into the reasoning",
        "answer never closed",
        "gold outside of the answer",
    ):
        assert score("format", tricks[trick], s).value == 0.0, trick


def test_the_whole_image_as_the_box_earns_its_overlap_only() -> None:
    s = sample("box", (0.0, 0.0, 50.0, 20.0))
    assert score("iou", written("[0, 0, 100, 100]"), s).value == pytest.approx(0.1)
    assert score("iou_at", written("[0, 0, 100, 100]"), s).value == 0.0
    assert score("iou", written("[-1e9, -1e9, 1e9, 1e9]"), s).value == 0.0


def test_covering_everything_with_boxes_costs_what_is_superfluous() -> None:
    golds = ((0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0))
    s = sample("boxes", golds)
    tiles = [[x, y, x + 10, y + 10] for x in range(0, 100, 10) for y in range(0, 100, 10)]  # 100, both golds among them
    assert score("iou_set", written(str(tiles)), s).value == pytest.approx(2 / 100)
    assert score("iou_set", written(str(tiles)), s, metric="f1").value == pytest.approx(2 * 2 / 102)


def test_all_options_of_a_multiple_choice_are_worth_nothing() -> None:
    s = sample("choices", ("A", "C"), choices=("w", "x", "y", "z"))
    assert score("multi_choice", written("A, B, C, D"), s).value == 0.0
    assert score("multi_choice", written("ABCD"), s).value == 0.0


def test_a_box_written_n_times_counts_once() -> None:
    s = sample("number", 4.0)
    assert score("count_boxes", written("[0,0,9,9] " * 4), s).value == 0.25
    assert score("count_boxes", written("[0,0,9,9],[20,0,29,9],[40,0,49,9],[60,0,69,9]"), s).value == 1.0
    assert score("count_boxes", written("[5,5,5,5],[6,6,1,1],[nan,0,1,1],[1,2,3,4]"), s).value == 0.25
    assert score("count_boxes", written(str([[x, 0, x + 1, 1] for x in range(100)])), s).value == 0.0
