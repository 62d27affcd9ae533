"""Benchmarks' own rules: hand-made predictions, numbers worked by hand from the rules as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrl.errors import ConfigError, DataError
from mmrl.evaluation.benchmarks import (
    boxes,
    chartqa,
    mathvista,
    mmmu,
    r1_v,
    seed_bench_r1,
    time_r1,
    video_r1,
    vsi_bench,
)
from mmrl.evaluation.benchmarks.catalog import RULES, rules
from mmrl.evaluation.predictions import read_predictions, score_predictions, settings_for
from mmrl.evaluation.result import EvaluationResult


def scored(tmp_path: Path, name: str, rows: list[dict[str, Any]]) -> EvaluationResult:
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = rules(name)
    predictions = read_predictions(path)
    settings = settings_for(predictions, slice_by=found.slice_by, resamples=50)
    return score_predictions(predictions, found, settings=settings, facts={"rules": name})


# ── VSI-Bench ──


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("B", "B", 1.0),
        ("b. the chair", "B", 1.0),  # the first word without its dot, in any case
        ("B.", "B", 1.0),
        (" B", "B", 0.0),  # split at plain spaces: the first word is empty
        ("The answer is B", "B", 0.0),
        ("B\nbecause", "B", 0.0),  # a new line is no space
        ("(B)", "B", 0.0),
    ],
)
def test_vsi_choices_take_the_first_word(prediction: str, gold: str, expected: float) -> None:
    assert vsi_bench.accuracy_of(prediction, gold) == expected


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("4", 4, 1.0),
        ("3", 4, 0.6),  # off by 0.25: reaches 0.50 … 0.75
        ("2", 4, 0.1),  # off by 0.5 exactly: ≤ reaches 0.50
        ("1", 4, 0.0),
        ("4.5 meters", 4, 0.8),  # off by 0.125: 0.50 … 0.85
        ("four", 4, 0.0),
        ("4..", 4, 1.0),
        ("1,000", 1000, 0.0),  # no number to Python
        ("1e3", 1000, 1.0),
        ("nan", 4, 0.0),
        ("-9", -4, 1.0),  # divided by a negative gold the error is negative: it reaches everything
    ],
)
def test_vsi_numbers_by_mean_relative_accuracy(prediction: str, gold: float, expected: float) -> None:
    assert vsi_bench.mra_of(prediction, gold) == pytest.approx(expected)


def test_vsi_gold_zero_is_refused_as_in_the_code() -> None:
    with pytest.raises(DataError, match="divides"):
        vsi_bench.mra_of("0", 0)


def test_vsi_thresholds_are_those_of_numpys_linspace() -> None:
    """For every error on a fine grid, and at the thresholds themselves."""
    thresholds = np.linspace(0.5, 0.95, int((0.95 - 0.5) / 0.05 + 2))
    assert len(thresholds) == 10
    for hundredths in range(120):
        said = 100 + hundredths
        expected = np.mean(abs(said - 100) / 100 <= 1 - thresholds)
        assert vsi_bench.mra_of(str(said), 100) == pytest.approx(expected), said


def test_vsi_averages_types_and_the_three_directions_as_one(tmp_path: Path) -> None:
    def row(kind: str, prediction: str, gold: str) -> dict[str, Any]:
        return {"question_type": kind, "prediction": prediction, "ground_truth": gold}

    result = scored(
        tmp_path,
        "vsi_bench",
        [
            row("object_rel_direction_easy", "A", "A"),
            row("object_rel_direction_medium", "A", "B"),
            row("object_rel_direction_hard", "A", "B"),
            row("object_rel_direction_hard", "B", "B"),
            row("object_counting", "4", "4"),
            row("object_counting", "2", "4"),
            row("route_planning", "C", "A"),
        ],
    )
    figures = {name: interval.value for name, interval in result.benchmarks["vsi_bench"].items()}
    assert figures == pytest.approx(
        {
            "object_counting": 0.55,  # (1 + 0.1) / 2
            "object_rel_direction": 0.5,  # (1 + 0 + ½) / 3, not the 2 of 4 questions
            "route_planning": 0.0,
            "overall": (0.55 + 0.5 + 0.0) / 3,
        }
    )
    assert list(figures)[-1] == "overall"
    assert result.overall.accuracy.value == pytest.approx(
        (1 + 0 + 0 + 1 + 1 + 0.1 + 0) / 7
    )  # the mean of questions is another one
    assert result.slices["question_type"]["object_rel_direction_hard"].accuracy.value == 0.5
    low, high = (getattr(result.benchmarks["vsi_bench"]["overall"], end) for end in ("low", "high"))
    assert low <= figures["overall"] <= high
    assert EvaluationResult.from_json(result.to_json()) == result


def test_vsi_lines_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions.jsonl:2: question_type is 'colour'"):
        scored(
            tmp_path,
            "vsi_bench",
            [
                {"question_type": "object_counting", "prediction": "4", "ground_truth": 4},
                {"question_type": "colour", "prediction": "4", "ground_truth": "4"},
            ],
        )


# ── SEED-Bench-R1 ──


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("<answer>B</answer>", 1.0),
        ("<answer> B. pour water</answer>", 1.0),
        ("<answer>Both</answer>", 1.0),  # the first character is all that counts
        ("<answer>Because of the kettle</answer>", 1.0),
        ("<answer>(B)</answer>", 0.0),
        ("<answer>b</answer>", 0.0),
        ("<answer></answer>", 0.0),
        ("B", 0.0),  # no block
        ("<answer>A</answer> <answer>B</answer>", 0.0),  # the first block
    ],
)
def test_seed_bench_compares_the_first_character_of_the_first_block(prediction: str, expected: float) -> None:
    assert seed_bench_r1.accuracy_of(prediction, "B") == expected


def test_seed_bench_tells_its_three_levels(tmp_path: Path) -> None:
    said = "<think>x</think><answer>A</answer>"
    result = scored(
        tmp_path,
        "seed_bench_r1",
        [
            {"task_level": "L1", "golden_choice_idx": "A", "prediction": said},
            {"task_level": "L1", "golden_choice_idx": "B", "prediction": f"so {said}"},
            {"task_level": 2, "golden_choice_idx": "A", "prediction": f"{said} trailing text"},
            {"task_level": "l3", "golden_choice_idx": "C", "prediction": said},
        ],
    )
    figures = {name: interval.value for name, interval in result.benchmarks["seed_bench_r1"].items()}
    assert figures == {"L1": 0.5, "L2": 1.0, "L3": 0.0}
    assert result.overall.format_rate == 0.75  # from the start; text may follow


# ── Video-R1 ──


@pytest.mark.parametrize(
    ("kind", "prediction", "solution", "expected"),
    [
        ("multiple choice", "<think>A</think><answer> B </answer>", "B", 1.0),
        ("multiple choice", "<answer>B.</answer>", "B", 0.0),  # the same text, or nothing
        ("multiple choice", "B", "B", 1.0),  # without a block, all of the output
        ("multiple choice", "<answer></answer>", "B", 0.0),
        ("numerical", "<answer>3</answer>", "3", 1.0),
        ("numerical", "<answer>3.0</answer>", "3", 0.0),  # one has a point, the other none
        ("numerical", "<answer>3.141</answer>", "3.14", 1.0),  # two decimals
        ("numerical", "<answer>1,000</answer>", "1000.0", 1.0),
        ("numerical", "<answer>three</answer>", "3", 0.0),
        ("regression", "<answer>10</answer>", "10", 1.0),
        ("regression", "<answer>8</answer>", "10", 0.6),  # at 0.2 exactly: strict, single precision
        ("regression", "<answer>nothing</answer>", "10", 0.0),
        ("OCR", "<answer>a b c d</answer>", "a b x d", 0.75),
        ("OCR", "<answer>A b</answer>", "a b", 0.5),  # case counts
        ("OCR", "<answer>q w e r t</answer>", "a b", 0.0),  # never below 0
        ("free-form", "<answer>cat</answer>", "cat", 2 / 3),  # no pair of words: ROUGE-2 is 0
        ("free-form", "<answer>the cat sat</answer>", "the cat sat", 1.0),
        ("free-form", "<answer>猫</answer>", "猫", 0.0),  # letters outside a–z are no words
    ],
)
def test_video_r1_scores_by_problem_type(kind: str, prediction: str, solution: str, expected: float) -> None:
    row = {"problem_type": kind, "solution": f"<answer>{solution}</answer>"}
    assert video_r1.score(prediction, row).accuracy == pytest.approx(expected)


def test_video_r1_thresholds_are_those_of_torchs_arange() -> None:
    import torch

    thresholds = torch.arange(0.5, 0.95 + 0.05 / 2, 0.05, dtype=torch.float32)
    for said in range(40, 220):
        error = torch.abs(torch.tensor(said / 2.0) - torch.tensor(50.0)) / (torch.tensor(50.0) + 1e-8)
        expected = (error < 1 - thresholds).float().mean().item()
        assert video_r1.relative_accuracy(said / 2.0, 50.0) == pytest.approx(expected), said


def test_video_r1_free_form_equals_the_rouge_score_package() -> None:
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for gold, said in [
        ("The cats were running quickly.", "A cat runs, quickly!"),
        ("it's 3.5 metres wide", "3 metres"),
        ("one two three four", "four three two one"),
        ("a", ""),
    ]:
        expected = sum(part.fmeasure for part in scorer.score(gold, said).values()) / 3
        row = {"problem_type": "free-form", "solution": f"<answer>{gold}</answer>"}
        got = video_r1.score(f"<answer>{said}</answer>" if said else "<answer>-</answer>", row).accuracy
        assert got == pytest.approx(expected), (gold, said)


# ── places and times ──


@pytest.mark.parametrize(
    ("prediction", "overlap"),
    [
        ('<answer>{"bbox_2d": [0, 0, 10, 10]}</answer>', 1.0),
        ('<answer>```json\n[\n{"bbox_2d": [0, 0, 10, 5],\n"label": "a dog"}\n]\n```</answer>', 0.5),
        ("<answer>{[5, 5, 15, 15]}</answer>", 25 / 175),
        ("<answer>{[9, 0, 19, 10]}</answer>", 0.0),  # one pixel of overlap counts as none
        ("<answer>{[ 0, 0, 10, 10]}</answer>", 0.0),  # a space after the bracket
        ("<answer>{[0.0, 0, 10, 10]}</answer>", 0.0),
        ("<answer>{[-1, 0, 10, 10]}</answer>", 0.0),
        ("<answer>[0, 0, 10, 10]</answer>", 0.0),  # no braces
        ("<answer>[0, 0, 10, 10] {}</answer>", 0.0),  # the box is not inside them
        ("<answer>{[0, 0, 10, 10]</answer>", 0.0),  # none that closes
        ("<answer>} [0, 0, 10, 10] {</answer>", 0.0),
        ('{"bbox_2d": [0, 0, 10, 10]}', 0.0),  # no block
        ("<answer>{a: [9, 9, 10, 10], b: [0, 0, 10, 10]}</answer>", 1.0),  # the last box
        ("<answer>{a: [0, 0, 10, 10]} {b: [9, 9, 10, 10]}</answer>", 0.0),
        ("<answer>{a: [0, 0, 10, 10]} [9, 9, 10, 10]</answer>", 1.0),  # what stands after the last brace is nothing
        ("<answer>{[0, 0, 10, 10]}</answer> <answer>{[9, 9, 10, 10]}</answer>", 1.0),  # the first block
    ],
)
def test_vlm_r1_boxes(prediction: str, overlap: float) -> None:
    found = boxes.score_box(prediction, {"solution": [0, 0, 10, 10]})
    assert found.measures["iou"] == pytest.approx(overlap)
    assert found.accuracy == float(overlap > 0.5)
    assert found.measures["iou_at_0.5"] == float(overlap >= 0.5)


def test_vlm_r1_boxes_of_the_resized_picture_are_converted() -> None:
    row = {"solution": [0, 0, 20, 10], "model_size": [100, 100], "image_size": [200, 100]}
    assert boxes.score_box("<answer>{[0, 0, 10, 10]}</answer>", row).measures["iou"] == 1.0


def test_a_wall_of_braces_and_boxes_is_read_in_no_time() -> None:
    found = boxes.score_box("<answer>" + "{[1,1,2,2]" * 20_000 + "</answer>", {"solution": [0, 0, 10, 10]})
    assert found.measures["iou"] == 0.0


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("(0.5, 0.5)", 1.0),
        ("click [0.2, 0.4]", 1.0),  # on the edge
        ("[500, 500]", 1.0),  # thousandths
        ("[0.1, 0.1, 0.5, 0.9]", 1.0),  # the centre, (0.3, 0.5)
        ("[0.9, 0.5]", 0.0),
        ("in the middle", 0.0),
    ],
)
def test_screenspot_points(prediction: str, expected: float) -> None:
    row = {"bbox": [0.2, 0.4, 0.6, 0.6], "data_type": "icon", "data_source": "windows"}
    found = boxes.score_point(prediction, row)
    assert found.accuracy == expected
    assert found.slices == {"data_type": "icon", "data_source": "windows"}


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("<answer>4.0 to 8.0</answer>", 1.0),
        ("<answer>6 to 10</answer>", 2 / 6),
        ("<answer>0 to 2, no, 4 and 6</answer>", 0.5),  # the last pair
        ("<answer>8 to 12</answer>", 0.0),
        ("<answer>4 - 8</answer>", 0.0),  # not the words
        ("<answer>4  to  8</answer>", 0.0),  # exactly one space
        ("<answer>8 to 4</answer>", 0.0),  # reversed
        ("4 to 8", 0.0),
        ("<answer>1 to 2</answer><answer>4 to 8</answer>", 1.0),  # the last block
    ],
)
def test_time_r1_spans(prediction: str, expected: float) -> None:
    found = time_r1.score(prediction, {"timestamp": [4.0, 8.0]})
    assert found.accuracy == pytest.approx(expected)
    assert [found.measures[f"iou_at_{t}"] for t in (0.3, 0.5, 0.7)] == [float(expected >= t) for t in (0.3, 0.5, 0.7)]


def test_time_r1_reports_mean_iou_and_recall(tmp_path: Path) -> None:
    result = scored(
        tmp_path,
        "time_r1",
        [
            {"prediction": "<answer>4 to 8</answer>", "timestamp": [4, 8]},
            {"prediction": "<answer>6 to 10</answer>", "timestamp": [4, 8]},
            {"prediction": "never", "timestamp": [4, 8]},
        ],
    )
    values = {name: interval.value for name, interval in result.overall.measures.items()}
    assert values == pytest.approx(
        {"iou": (1 + 1 / 3) / 3, "iou_at_0.3": 2 / 3, "iou_at_0.5": 1 / 3, "iou_at_0.7": 1 / 3}
    )


# ── charts, mathematics, universities ──


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("14", "14", 1.0),
        ("14.7", "14", 1.0),  # 5 %
        ("14.71", "14", 0.0),
        ("2015", "2010", 1.0),  # years too
        ("50%", "0.5", 1.0),
        ("Yes", "yes", 1.0),
        ("0", "0", 1.0),
        ("0.0", "0", 0.0),  # a gold of 0 is a text
        ("$5", "5", 0.0),
        ("nan", "5", 0.0),
    ],
)
def test_chartqa_relaxed_accuracy(prediction: str, gold: str, expected: float) -> None:
    assert chartqa.relaxed_accuracy(prediction, gold) == expected


@pytest.mark.parametrize(
    ("prediction", "row", "expected"),
    [
        ("(B) blue", {"question_type": "multi_choice", "choices": ["red", "blue"], "answer": "blue"}, 1.0),
        ("A", {"question_type": "multi_choice", "choices": ["red", "blue"], "answer": "red"}, 1.0),
        ("bluish", {"question_type": "multi_choice", "choices": ["red", "blue"], "answer": "blue"}, 1.0),
        ("3.9", {"question_type": "free_form", "answer_type": "integer", "answer": "3"}, 1.0),
        ("three", {"question_type": "free_form", "answer_type": "integer", "answer": "3"}, 0.0),
        ("1.449", {"question_type": "free_form", "answer_type": "float", "precision": 1.0, "answer": "1.4"}, 1.0),
        ("[1, 2]", {"question_type": "free_form", "answer_type": "list", "answer": "[1, 2]"}, 1.0),
    ],
)
def test_mathvista_brings_answers_into_the_golds_form(prediction: str, row: dict[str, Any], expected: float) -> None:
    assert mathvista.score(prediction, row).accuracy == expected


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("The answer is (C), not (A)", 0.0),  # the last of those found: A
        ("(A) or rather (C)", 1.0),
        ("I would say C", 1.0),
        ("C. 12 volts", 1.0),
        ("after some thought it must be twelve volts here", 1.0),  # an option's text, in more than five words
    ],
)
def test_mmmu_reads_letters_then_texts(prediction: str, expected: float) -> None:
    row = {"options": "['one volt', 'two volts', 'twelve volts']", "answer": "C"}
    assert rules("mmmu").score(prediction, row).accuracy == expected


def test_mmmu_guesses_alike_in_every_reading_of_a_file() -> None:
    row = {"options": ["a", "b", "c", "d"], "answer": "A"}

    def guesses() -> list[float]:
        found = rules("mmmu")
        return [found.score("no idea", row).accuracy for _ in range(40)]

    assert guesses() == guesses()
    assert 0 < sum(guesses()) < 40
    with pytest.raises(DataError, match="open question"):
        rules("mmmu").score("x", {**row, "question_type": "open"})


def test_mmmu_strips_one_mark_after_the_other_and_no_spaces() -> None:
    """ "C.," loses its comma, then its dot; "C,." loses its dot, and a comma is no longer looked for."""
    from random import Random

    class Never(Random):
        def choice(self, seq: Any) -> Any:
            return "guessed"

    options = ["one volt", "two volts", "twelve volts"]
    assert mmmu.read_choice("C.,", options, Never()) == "C"
    assert mmmu.read_choice("'C'", options, Never()) == "C"
    assert mmmu.read_choice("C,.", options, Never()) == "guessed"
    assert mmmu.read_choice("C, ", options, Never()) == "guessed"  # a space ends it, not the comma


def test_mmmu_takes_the_first_of_options_that_begin_at_the_same_place() -> None:
    options = ["red", "red brick", "blue"]
    said = "I think that the wall is made of red brick"
    assert rules("mmmu").score(said, {"options": options, "answer": "A"}).accuracy == 1.0
    assert rules("mmmu").score(said, {"options": options, "answer": "B"}).accuracy == 0.0


def test_geometry_and_counting() -> None:
    assert r1_v.score_geometry("<answer> 140° </answer>", {"ground_truth": "140°"}).accuracy == 1.0
    assert r1_v.score_geometry("<answer>$\\frac{1}{2}$</answer>", {"ground_truth": "$0.5$"}).accuracy == 1.0
    assert r1_v.score_geometry("<answer>141°</answer>", {"ground_truth": "140°"}).accuracy == 0.0
    # A gold in which math-verify reads nothing: the same text, as in R1-V's reward.
    assert r1_v.score_geometry("<think>so</think><answer>B</answer>", {"ground_truth": "B"}).accuracy == 1.0
    assert r1_v.score_geometry("<answer>A</answer>", {"ground_truth": "B"}).accuracy == 0.0
    assert r1_v.score_count("<answer> 3 </answer>", {"ground_truth": 3}).accuracy == 1.0
    assert r1_v.score_count("<answer>3 cubes</answer>", {"ground_truth": 3}).accuracy == 0.0


def test_every_catalogue_entry_says_what_its_lines_need() -> None:
    for name in RULES:
        entry = rules(name)
        assert entry.summary
        assert entry.source
        with pytest.raises(DataError):
            entry.score("x", {})
    with pytest.raises(ConfigError, match="vsi_bench"):
        rules("vsi")


# ── what votes in majority@k ──


@pytest.mark.parametrize(
    ("name", "row", "groups"),
    [
        (
            "vsi_bench",
            {"question_type": "object_rel_distance", "ground_truth": "B"},
            [["B", "b.", "B. the chair"], ["A"], [" B", ""]],
        ),
        (
            "vsi_bench",
            {"question_type": "object_counting", "ground_truth": "4"},
            [["4", "4.0", "4 chairs", "4."], ["5"], ["four"]],
        ),
        (
            "seed_bench_r1",
            {"task_level": "L1", "golden_choice_idx": "B"},
            [["<think>a</think><answer>B</answer>", "<answer>Both</answer>"], ["<answer>b</answer>"], ["B", ""]],
        ),
        (
            "video_r1",
            {"problem_type": "multiple choice", "solution": "<answer>B</answer>"},
            [["<think>it is</think><answer>B</answer>", "B", "<answer> B </answer>"], ["<answer>B.</answer>"]],
        ),
        (
            "video_r1",
            {"problem_type": "numerical", "solution": "<answer>3.14</answer>"},
            [["<answer>3.14</answer>", "<answer>3.141</answer>"], ["<answer>3</answer>"], ["<answer>pi</answer>"]],
        ),
        (
            "video_r1",
            {"problem_type": "regression", "solution": "<answer>10</answer>"},
            [["<answer>8</answer>", "<answer>8.0</answer>"], ["<answer>9</answer>"], ["<answer>x</answer>"]],
        ),
        (
            "video_r1",
            {"problem_type": "OCR", "solution": "<answer>Go left</answer>"},
            [["<answer>Go  left</answer>", "Go left"], ["<answer>go left</answer>"]],
        ),
        (
            "video_r1",
            {"problem_type": "free-form", "solution": "<answer>two cats</answer>"},
            [["<answer>Two cats!</answer>", "two cats"], ["<answer>two dogs</answer>"]],
        ),
        (
            "vlm_r1_rec",
            {"solution": [0, 0, 10, 10]},
            [
                ["<answer>{[0, 0, 9, 9]}</answer>", "<answer>{a: [0,0,9,9]}</answer>"],
                ["<answer>{[0, 0, 9, 8]}</answer>"],
            ],
        ),
        (
            "time_r1",
            {"timestamp": [4, 8]},
            [["<answer>4 to 8</answer>", "<answer>4.0 and 8.0</answer>"], ["<answer>4 to 9</answer>"], ["4 to 8"]],
        ),
        (
            "screenspot",
            {"bbox": [0.2, 0.4, 0.6, 0.6]},
            [["(0.5, 0.5)", "[500, 500]", "click [0.4, 0.4, 0.6, 0.6]"], ["(0.5, 0.6)"], ["there"]],
        ),
        ("chartqa", {"answer": "14"}, [["14", "14.0"], ["14.1"], ["Yes", "yes"], [""]]),
        (
            "mathvista",
            {"question_type": "multi_choice", "choices": ["red", "blue"], "answer": "blue"},
            [["(B) blue", "B", "bluish"], ["A", "red"]],
        ),
        (
            "mathvista",
            {"question_type": "free_form", "answer_type": "integer", "answer": "3"},
            [["3", "3.9"], ["4"], ["three"]],
        ),
        ("mmmu", {"options": ["a", "b", "c"], "answer": "B"}, [["(B)", "it is B indeed", "B. yes"], ["(C)"]]),
        (
            "geoqa",
            {"ground_truth": "0.5"},
            [["<answer>$\\frac{1}{2}$</answer>", "so $0.5$"], ["<answer>2</answer>"], ["$x+1$", "$x + 1$"], ["none"]],
        ),
        (
            "clevr_count",
            {"ground_truth": 3},
            [["<answer>3</answer>", "<answer> 03 </answer>"], ["<answer>4</answer>"], ["3"]],
        ),
    ],
)
def test_texts_that_the_rules_read_alike_cast_one_vote(name: str, row: dict[str, Any], groups: list[list[str]]) -> None:
    """Each group is one answer, no two groups the same; and what has no vote is worth nothing."""
    found = rules(name)
    votes = []
    for group in groups:
        scored_group = [found.score(text, row) for text in group]
        assert len({one.answer for one in scored_group}) == 1, [one.answer for one in scored_group]
        votes.append(scored_group[0].answer)
        assert votes[-1] is not None or not any(one.accuracy for one in scored_group)
    assert len(set(votes)) == len(votes)


def test_majority_counts_answers_whatever_reasoning_led_to_them(tmp_path: Path) -> None:
    """Eight completions, all reasoned in words of their own: B five times, A, C and D once each."""
    texts = [f"<think>way {i}</think><answer>{letter}</answer>" for i, letter in enumerate("BBBBBACD")]
    for name, row in (
        ("seed_bench_r1", {"task_level": "L1", "golden_choice_idx": "B"}),
        ("video_r1", {"problem_type": "multiple choice", "solution": "<answer>B</answer>"}),
    ):
        result = scored(tmp_path, name, [{**row, "prediction": texts}])
        assert result.overall.majority_at[8].value == 1.0
        assert result.overall.majority_at[1].value == pytest.approx(5 / 8)
        assert result.rows[0].sampled_answers == ("B", "B", "B", "B", "B", "A", "C", "D")
