"""Values worked by hand, most of them from the papers and codes that the rewards name."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.errors import ConfigError
from mmrl.rewards.bmas import similarities
from mmrl.rewards.catalog import score
from mmrl.rewards.iou import giou, iou
from mmrl.rewards.iou_set import average_precision, optimal_matching
from mmrl.rewards.number import mean_relative_accuracy
from mmrl.rewards.spans import span_iou, union_iou
from mmrl.types import Completion, FinishReason, Sample
from tests.rewards.world import said, sample

NUMBER = 4.0


def worth(name: str, s: Sample, *answers: str) -> list[float]:
    """What each answer is worth."""
    return [score(name, said(answer), s).value for answer in answers]


@pytest.mark.parametrize(
    ("number", "value"), [(3.6, 0.9), (3.9, 1.0), (4, 1.0), (3, 0.6), (6, 0.1), (2, 0.1), (10, 0.0)]
)
def test_mean_relative_accuracy_of_gold_four(number: float, value: float) -> None:
    assert score("mra", said(str(number)), sample("number", NUMBER)).value == pytest.approx(value)


def test_vsgrpo_s_relative_error_is_the_same_for_half_and_double() -> None:
    """Gold 4, δ = 0, 1/9, 1/3, 1.5; as worked in the reference. Then 2 and 8: δ = 1."""
    four = sample("number", 4.0)
    found = worth("symmetric_relative", four, "4", "3.6", "3", "10", "2", "8", "-4", "none")
    assert found == pytest.approx([1.0, 0.888889, 0.666667, 0.0, 0.0, 0.0, 0.0, 0.0], abs=1e-6)
    values = [score("symmetric_relative", said(a), four, shape="exp").value for a in ("2", "8", "6")]
    assert values == pytest.approx([math.exp(-1), math.exp(-1), math.exp(-0.5)])
    zero = sample("number", 0.0)
    assert worth("symmetric_relative", zero, "0", "1") == [1.0, 0.0]
    with pytest.raises(ConfigError, match="'linear' or 'exp'"):
        score("symmetric_relative", said("4"), four, shape="square")


def test_mean_relative_accuracy_at_equality_zero_and_below() -> None:
    assert mean_relative_accuracy(3, 4, strict=True) == 0.5  # relative error 0.25 does not count at θ = 0.75
    assert mean_relative_accuracy(0, 0) == 1.0
    assert mean_relative_accuracy(0.1, 0) == 0.0
    assert mean_relative_accuracy(-3.6, -4) == 0.9
    for threshold in range(50, 100, 5):  # an error of exactly 1 − θ reaches θ and all below
        assert mean_relative_accuracy(threshold, 100) == pytest.approx((threshold - 45) / 50)


@pytest.mark.parametrize(("number", "value"), [("8", 0.8), ("12.5", 0.75), ("25", 0.0), ("10", 1.0), ("nan", 0.0)])
def test_relative_error_of_gold_ten(number: str, value: float) -> None:
    assert score("relative", said(number), sample("number", 10.0)).value == pytest.approx(value, abs=1e-8)


def test_number_compares_values_units_and_tolerances() -> None:
    three = sample("number", 3.0)
    for text in ("3", "3.0", "three", "3 chairs", "There are 3.", "**3**", "$3$", "\\boxed{3}", "6/2", "3,000/1,000"):
        expected = 0.0 if "," in text else 1.0
        assert score("number", said(text), three).value == expected, text
    for text in ("3 or 4", "2, 3", "33", "-3", "3%4", "", "three hundred", "x3"):
        assert score("number", said(text), three).value == 0.0, text
    metres = sample("number", 3.5, unit="m")
    assert [score("number", said(t), metres).value for t in ("3.5", "350 cm", "3.5 m", "3.5 s", "0.0035 km")] == [
        1,
        1,
        1,
        0,
        1,
    ]
    assert [score("number", said(t), sample("number", 0.5)).value for t in ("50%", "1/2", "0.5", "50")] == [1, 1, 1, 0]
    assert score("number", said("1,234,567"), sample("number", 1234567.0)).value == 1.0
    assert score("number", said("105"), sample("number", 100.0), relative_tolerance=0.05).value == 1.0
    assert score("number", said("105.1"), sample("number", 100.0), relative_tolerance=0.05).value == 0.0
    assert score("number", said("3.4"), three, tolerance=0.5).value == 1.0


def test_multiple_choice_as_tw_grpo_pays() -> None:
    s = sample("choices", ("A", "C"))
    values = [score("multi_choice", said(t), s).value for t in ("A", "A,C", "A,B", "", "C and A", "AC", "(A), (C)")]
    assert values == [0.5, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert score("multi_choice", said("A"), s, partial=False).value == 0.0


def test_choice_reads_letters_texts_and_sentences() -> None:
    s = sample("choice", "B", choices=("A dog", "the cat", "red car", "dark red car"))
    for text in (
        "B",
        "b",
        "(B)",
        "B.",
        "B. the cat",
        "the cat",
        "The Cat.",
        "The answer is B",
        "Option B: the cat",
        "**B**",
    ):
        assert score("choice", said(text), s).value == 1.0, text
    for text in ("A", "A and B", "B. A dog", "both A and B", "cat", "B or C", "dark red car", "E", "Because", "Both"):
        assert score("choice", said(text), s).value == 0.0, text
    assert score("choice", said("A dog"), sample("choice", "A", choices=s.choices)).value == 1.0
    assert score("choice", said("a dark red car"), sample("choice", "D", choices=s.choices)).value == 1.0
    assert score("choice", said("B or C"), s, several="share").value == 0.5
    assert score("choice", said("A and D"), s, several="share").value == 0.0
    both = sample("choice", "C", choices=("cat", "dog", "both A and B"))
    assert worth("choice", both, "C. both A and B", "both A and B", "(c) Both A and B", "A and B") == [1, 1, 1, 0]
    assert worth("choice", s, "b. the cat", "Ｂ", "B: red car", "c. the cat") == [1, 1, 0, 0]
    digits = sample("choice", "H", choices=tuple("0123456789"))
    assert [score("choice", said(t), digits).value for t in ("H", "7", "H. 7", "H. 8", "8")] == [1, 1, 1, 0, 0]


def test_word_error_rate_rouge_and_edit_distance() -> None:
    assert score("wer", said("open a red doors now"), sample("text", "open the red door")).value == pytest.approx(0.25)
    man = sample("text", "the man opens the door")
    assert score("rouge", said("the man closed the door"), man).value == pytest.approx(0.7)
    assert score("edit_distance", said("kitten"), sample("text", "sitting")).value == pytest.approx(1 - 3 / 7)
    assert score("edit_distance", said("kitten"), sample("text", "sitting"), threshold=0.6).value == 0.0
    exact = sample("text", "The  Red-Door!")
    assert score("text_exact", said("the red door"), exact).value == 1.0
    assert score("text_exact", said("the red door"), exact, ignore_case=False).value == 0.0
    assert score("text_exact", said("red door"), exact, ignore_articles=True).value == 1.0


VOCABULARY = ["the", "man", "opened", "opening", "doors", "a", "red", "relational", "3", "fly", "flies"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(VOCABULARY), min_size=2, max_size=9), st.data())
def test_rouge_equals_the_rouge_score_package(gold: list[str], data: st.DataObject) -> None:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    text = " ".join(data.draw(st.lists(st.sampled_from([*gold, "and", "walks"]), min_size=1, max_size=12)))
    reference = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(" ".join(gold), text)
    expected = sum(part.fmeasure for part in reference.values()) / 3
    assert score("rouge", said(text), sample("text", " ".join(gold))).value == pytest.approx(expected)


def test_relaxed_accuracy_of_charts() -> None:
    hundred = sample("number", 100.0)
    assert [score("chart", said(t), hundred).value for t in ("104", "106", "95", "105", "94.9")] == [1, 0, 1, 1, 0]
    assert score("chart", said("1,040"), sample("text", "1,000")).value == 1.0
    assert score("chart", said("12%"), sample("text", "12.5%")).value == 1.0
    assert score("chart", said("germany"), sample("text", "Germany")).value == 1.0
    assert score("chart", said("2010"), sample("text", "2019")).value == 0.0
    assert score("chart", said("2010"), sample("text", "2019"), years_exact=False).value == 1.0
    assert [score("chart", said(t), sample("number", 0.0)).value for t in ("0", "0.01")] == [1, 0]


def test_mathematics_is_equality_of_values() -> None:
    equal = [("3\\sqrt{2}", "\\sqrt{18}"), ("\\frac{1}{2}", "0.5"), ("x^2+2x+1", "(x+1)^2"), ("3", "x=3")]
    equal += [("(1,2)", "(1, 2)"), ("1000000", "10^6"), ("4", "2+2=4"), ("4", "The answer is 4."), ("1,234", "1234")]
    for gold, text in [*equal, ("x>3", "x > 3.0"), ("140", "140^\\circ"), ("4", "$\\frac{8}{2}$")]:
        assert score("math", said(text), sample("math", gold)).value == 1.0, (gold, text)
    several = ["3 or 4", "3, 4", "3\n4", "3 4", "3=4", "not 3 but 4", "3 vs 4", "3: 4", "3 -> 4", "$3$ $4$", "x<=4"]
    for text in [*several, "3\\text{ or }4", "1=2=3=4", "\\{3, 4\\}", "\\boxed{3}, \\boxed{4}", "first 3 later 4", "5"]:
        assert score("math", said(text), sample("math", "4")).value == 0.0, text
    assert score("math", said("[" * 99), sample("math", "4")).value == 0.0


def test_iou_and_giou_of_one_box() -> None:
    assert iou((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175)
    assert giou((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175 - 50 / 225)
    assert giou((0, 0, 1, 1), (3, 0, 4, 1)) == pytest.approx(-0.5)
    s = sample("box", (0.0, 0.0, 10.0, 10.0))
    assert score("iou", said("[5, 5, 15, 15]"), s).value == pytest.approx(0.142857, abs=1e-6)
    assert score("iou_at", said("[0, 0, 10, 5]"), s).value == 1.0
    assert score("iou_at", said("[0, 0, 10, 6]"), s, thresholds=[0.5, 0.7]).value == 0.5
    for text in (
        "[10, 10, 0, 0]",
        "[0, 0, 0, 10]",
        "[nan, 0, 10, 10]",
        "[0,0,inf,10]",
        "[0,0,1e7,10]",
        "[0,0,10,10],[0,0,9,9]",
    ):
        assert score("iou", said(text), s).value == 0.0, text
        assert score("giou", said(text), s).value == -1.0, text
    assert score("iou", said("[-5, 0, 10, 10]"), s).value == pytest.approx(100 / 150)  # beyond the picture is valid


def test_iou_equals_shapely_on_ten_thousand_random_pairs_and_is_symmetric() -> None:
    import shapely  # type: ignore[import-untyped]

    random.seed(7)
    for _ in range(10_000):
        scale = random.choice([1.0, 1000.0])
        a, b = (_random_box(scale) for _ in range(2))
        first, second = shapely.box(*a), shapely.box(*b)
        expected = first.intersection(second).area / first.union(second).area
        assert iou(a, b) == pytest.approx(expected, abs=1e-9)
        assert iou(a, b) == iou(b, a)
        assert -1.0 < giou(a, b) <= iou(a, b) + 1e-12
        hull = first.union(second).envelope.area
        assert giou(a, b) == pytest.approx(expected - (hull - first.union(second).area) / hull, abs=1e-9)


def _random_box(scale: float) -> tuple[float, float, float, float]:
    x, y = random.random() * scale, random.random() * scale
    return x, y, x + (0.01 + random.random()) * scale, y + (0.01 + random.random()) * scale


GOLDS = ((0.0, 0.0, 10.0, 8.0), (21.0, 21.0, 31.0, 31.0))
THREE = "[[0,0,10,10],[20,20,30,30],[50,50,60,60]]"  # IoUs 0.8 and 81/119, and one that matches nothing


def test_box_sets_by_optimal_matching() -> None:
    s = sample("boxes", GOLDS)
    result = score("iou_set", said(THREE), s)
    assert result.value == pytest.approx(0.493557, abs=1e-6)  # (0.8 + 0.680672) / 3
    assert result.details["precision"] == pytest.approx(2 / 3)
    assert result.details["recall"] == 1.0
    assert score("iou_set", said(THREE), s, metric="f1").value == pytest.approx(0.8)
    assert score("iou_set", said(THREE), s, metric="f1", thresholds=[0.5, 0.75]).value == pytest.approx(0.6)
    assert optimal_matching([[0.9, 0.8], [0.85, 0.1]]) == [(0, 1), (1, 0)]  # 1.65; greedy takes 0.9 and 0.1
    empty = sample("boxes", ())
    assert [score("iou_set", said(t), empty).value for t in ("[]", "None", "```json\n[]\n```", THREE, "")] == [
        1,
        1,
        1,
        0,
        0,
    ]
    assert score("iou_set", said("[]"), s).value == 0.0


def test_average_precision_worked_by_hand() -> None:
    """Hits at ranks 1 and 3 of 3, two golds: precision 1 up to recall 0.5 (51 points), then 2/3 (50 points)."""
    hit_miss_hit = [[0.9, 0.0], [0.3, 0.2], [0.0, 0.6]]
    assert average_precision(hit_miss_hit, 0.5, 3) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision(hit_miss_hit, 0.7, 3) == pytest.approx(51 / 101)
    s = sample("boxes", GOLDS)
    assert score("iou_set", said(THREE), s, metric="ap").value == 1.0
    assert score("iou_set", said("[[50,50,60,60],[0,0,10,8]]"), s, metric="ap").value == pytest.approx(51 * 0.5 / 101)


def test_box_labels_must_agree_where_they_are_asked_for() -> None:
    s = sample("boxes", GOLDS, metadata={"labels": ["cat", "dog"]})
    text = '[{"bbox_2d": [0,0,10,8], "label": "Cat"}, {"bbox_2d": [21,21,31,31], "label": "cat"}]'
    assert score("iou_set", said(text), s).value == 1.0
    assert score("iou_set", said(text), s, labels=True).value == 0.5


def test_points_in_boxes_and_near_points() -> None:
    s = sample("box", (100.0, 200.0, 140.0, 220.0))
    assert [score("point_in_box", said(t), s).value for t in ("(120, 210)", "[100, 210]", "(99, 210)")] == [1, 1, 0]
    assert score("point_in_box", said("(100, 210)"), s, strict=True).value == 0.0
    assert score("point_in_box", said("[110, 205, 130, 215]"), s).value == 1.0  # the centre of a box
    assert score("point_in_box", said("(120, 210), (1, 1)"), s).value == 0.0
    near = sample("point", (100.0, 100.0))
    assert score("point_distance", said('{"point_2d": [170, 100]}'), near).value == pytest.approx(0.5)
    assert [score("point_distance", said(f"({x}, 100)"), near, shape="step").value for x in (239, 240)] == [1, 0]


def test_temporal_iou_of_one_and_several_spans() -> None:
    assert span_iou((4, 10), (6, 12)) == 0.5
    s = sample("span", (6.0, 12.0))
    for text in (
        "4 to 10",
        "[4, 10]",
        "0:04 - 0:10",
        "4s–10s",
        "from 4 to 10 seconds",
        '{"start": 4, "end": 10}',
        "4-10",
    ):
        assert score("temporal_iou", said(text), s).value == 0.5, text
    for text in ("10 to 4", "6 to 6", "-1 to 12", "6", "6 to 12 to 18", "1 to 2, 6 to 12", "nan to 12", "6 to inf"):
        assert score("temporal_iou", said(text), s).value == 0.0, text
    assert score("temporal_iou_at", said("4 to 10"), s).value == pytest.approx(2 / 3)  # reaches 0.3 and 0.5 of three
    assert union_iou([(0, 2), (1, 4)], [(3, 6)]) == pytest.approx(1 / 6)
    two = sample("spans", ((0.0, 2.0), (4.0, 6.0)))
    assert score("spans_iou", said("0 to 6"), two).value == pytest.approx(4 / 6)
    assert score("spans_iou", said("0 to 6"), two, metric="matched").value == pytest.approx(1 / 3 / 2)
    assert score("spans_iou", said("[[4, 6], [0, 2]]"), two, metric="matched").value == 1.0


def test_ordering_by_kendalls_tau() -> None:
    s = sample("choices", ("C", "A", "B"))
    values = [
        score("ordering", said(t), s).value
        for t in ("C, A, B", "CAB", "A, C, B", "B, A, C", "C, A", "C, A, A", "C, A, D")
    ]
    assert values == pytest.approx([1.0, 1.0, 1 / 3, 0.0, 1 / 3, 0.0, 0.0])
    assert score("ordering", said("A, C, B"), s, metric="exact").value == 0.0
    assert score("ordering", said("1. Cup\n2. book\n3. lamp"), sample("text", "cup, book, lamp")).value == 1.0


def test_bidirectional_max_average_similarity() -> None:
    a, b = np.array([[1, 0], [0.6, 0.8]]), np.array([[1, 0], [0, 1], [0.8, 0.6]])
    assert similarities(a, b) == pytest.approx((0.98, 0.92))
    red = sample("text", "a red car")
    assert score("bmas", said("a red car"), red).value == pytest.approx(1.0)
    assert score("bmas", said("a red cat"), red).value > score("bmas", said("the moon"), red).value
    assert (
        score("bmas", said("a red cat"), red, combine="harmonic").value <= score("bmas", said("a red cat"), red).value
    )


COSINE = [(0, 1, -1), (250, 0.926777, -0.926777), (500, 0.75, -0.75), (1000, 0.5, -0.5), (9000, 0.5, -0.5)]


@pytest.mark.parametrize(("length", "right", "wrong"), COSINE)
def test_cosine_length(length: int, right: float, wrong: float) -> None:
    s = sample("choice", "B")
    for letter, value in (("B", right), ("A", wrong)):
        completion = Completion(text=f"<answer>{letter}</answer>", token_count=length)
        found = score("length_cosine", completion, s, longest=1000, accuracy="choice").value
        assert found == pytest.approx(value, abs=1e-6)


def test_length_band_and_soft_overlong_punishment() -> None:
    def of(name: str, tokens: int, **options: int) -> float:
        cut = Completion(text="x", token_count=tokens, finish_reason=FinishReason.LENGTH)
        return score(name, cut, sample("choice", "B"), **options).value

    assert [of("length", n, shortest=320, longest=512) for n in (300, 320, 400, 512, 600)] == [0, 1, 1, 1, 0]
    assert [of("soft_overlong", n, longest=100, margin=20) for n in (80, 90, 100, 101)] == [0, -0.5, -1, -1]
    with pytest.raises(ConfigError, match="margin"):
        of("soft_overlong", 1, longest=10, margin=20)


def test_repetition_counts_different_ngrams() -> None:
    s = sample("choice", "B")
    assert score("repetition", "5 5 5 5 5", s, n=2).value == -0.75
    assert score("repetition", "one two three four", s).value == 0.0
    assert score("repetition", "a" * 5000, s).value < -0.99
    assert score("repetition", "the cat sat " * 50, s, penalty=0.5).value == pytest.approx(-0.5 * (1 - 3 / 148))


def test_agreement_of_reasoning_and_answer() -> None:
    s = sample("choice", "B", choices=("a cat", "a dog"))
    cases = {
        ("It barks. So it is B.", "B"): 1.0,
        ("It barks, so the answer is a dog.", "B"): 1.0,
        ("A cat would purr. It is a dog.", "A"): 0.0,
        ("Hard to see.", "B"): 0.5,
        ("It is A.", ""): 0.0,
    }
    for (reasoning, answer), value in cases.items():
        assert score("agreement", said(answer, reasoning), s).value == value, (reasoning, answer)
    count = sample("number", 5.0)
    assert score("agreement", said("5", "I see 2 and 3. Together 2 + 3 = 5."), count).value == 1.0
    assert score("agreement", said("6", "I see 2 and 3. Together that is five."), count).value == 0.0


def test_no_value_is_ever_nan() -> None:
    s = sample("box", (0.0, 0.0, 1.0, 1.0))
    for text in ("[1e6, 1e6, 1e6, 1e6]", "[-1e6,-1e6,1e6,1e6]", "[1e-320,0,2e-320,1]"):
        assert math.isfinite(score("giou", said(text), s).value)
