"""Other projects' rows become the samples they mean, and a row that cannot is left out with a reason."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from mmrl.cli.data import app
from mmrl.data.convert import convert_file
from mmrl.data.formats.catalog import FORMATS
from mmrl.data.formats.row import Unfit, letters_of, number_of, without_letters
from mmrl.data.manifest import read_manifest
from mmrl.errors import DataError
from mmrl.types import Answer, Media
from tests.curation.material import command, read


def converted(folder, name, *rows, lines=True):
    path = folder / "rows.json"
    path.write_text("\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows, indent=1))
    return convert_file(path, name, media_root=folder)


def one(folder, name, row):
    (sample,), dropped = converted(folder, name, row)
    assert not dropped
    return sample


def reason(folder, name, good, **changes):
    """Why a changed row is left out beside a good one."""
    row = {key: value for key, value in {**good, **changes}.items() if value is not ...}
    samples, (dropped,) = converted(folder, name, good, row)
    assert len(samples) == 1
    assert dropped.sample_id == "rows.json:2"
    return dropped.reason


VIDEO_R1: dict[str, Any] = {
    "problem_id": 7,
    "problem": "What does the man pick up?",
    "data_type": "video",
    "problem_type": "multiple choice",
    "options": ["A. cup", "B. book"],
    "process": "<think>He reaches for the shelf.</think>",
    "solution": "<answer>B</answer>",
    "path": "./CLEVRER/train/v1.mp4",
    "data_source": "CLEVRER",
}


def test_a_video_r1_row(tmp_path):
    sample = one(tmp_path, "video-r1", VIDEO_R1)
    assert (sample.id, sample.task, sample.question) == ("CLEVRER-7", "choice", "What does the man pick up?")
    assert sample.media == (Media(type="video", path=str(tmp_path / "CLEVRER/train/v1.mp4")),)
    assert sample.choices == ("cup", "book")
    assert sample.answer == Answer(type="choice", value="B")
    assert sample.metadata == {"source": "CLEVRER", "reasoning": "He reaches for the shelf."}


@pytest.mark.parametrize(
    ("kind", "solution", "task", "answer"),
    [
        ("numerical", "<answer> 1,234 </answer>", "number", Answer(type="number", value=1234)),
        ("regression", "<answer>3.50</answer>", "regression", Answer(type="number", value=3.5)),
        ("OCR", "<answer>EXIT 12</answer>", "ocr", Answer(type="text", value="EXIT 12")),
        ("free-form", "<answer>A red car.</answer>", "text", Answer(type="text", value="A red car.")),
        ("multiple choice", "<answer>A,B</answer>", "choice", Answer(type="choices", value=("A", "B"))),
        ("multiple choice", "<answer>(b)</answer>", "choice", Answer(type="choice", value="B")),
    ],
)
def test_the_answers_of_video_r1(tmp_path, kind, solution, task, answer):
    sample = one(tmp_path, "video-r1", VIDEO_R1 | {"problem_type": kind, "solution": solution})
    assert (sample.task, sample.answer) == (task, answer)


def test_video_r1_rows_that_do_not_fit(tmp_path):
    def why(**changes):
        return reason(tmp_path, "video-r1", VIDEO_R1, **changes)

    assert why(solution="<answer>C</answer>") == "answer is no option"
    assert why(solution="<answer>Both of them</answer>") == "answer is no option"
    assert why(solution=...) == "no solution"
    assert why(solution="<answer></answer>", problem_type="free-form") == "defective sample"
    assert why(problem_type="numerical", solution="<answer>140°</answer>") == "answer is no number"
    assert why(problem_type="essay") == "unknown problem type"
    assert why(data_type="audio") == "unknown data type"
    assert why(options=["A. cup", "B. cup"]) == "defective sample"
    assert why(problem="<image> What?") == "defective sample"


VLM_R1: dict[str, Any] = {
    "id": 1,
    "image": "train2014/COCO_train2014_000000123456.jpg",
    "conversations": [
        {"from": "human", "value": "<image>Please provide the bounding box of: the left dog."},
        {"from": "gpt", "value": "[12, 30, 200, 310]"},
    ],
}


def gold(value):
    return {"conversations": [VLM_R1["conversations"][0], {"from": "gpt", "value": value}]}


def test_a_vlm_r1_row(tmp_path):
    sample = one(tmp_path, "vlm-r1", VLM_R1)
    assert (sample.id, sample.task) == ("1", "box")
    assert sample.answer == Answer(type="box", value=(12, 30, 200, 310), space="pixels")
    assert sample.media[0].path == str(tmp_path / VLM_R1["image"])
    assert one(tmp_path, "vlm-r1", VLM_R1 | gold([1, 2, 3, 4])).answer.value == (1, 2, 3, 4)
    assert one(tmp_path, "vlm-r1", VLM_R1 | gold("<answer>[1, 2, 3, 4]</answer>")).answer.value == (1, 2, 3, 4)


def test_vlm_r1_rows_of_other_kinds(tmp_path):
    letter = one(tmp_path, "vlm-r1", VLM_R1 | gold("B.") | {"accu_reward_method": "mcq"})
    assert letter.answer == Answer(type="choice", value="B")
    text = one(tmp_path, "vlm-r1", VLM_R1 | gold("Yes") | {"accu_reward_method": "yes_no"})
    assert text.answer == Answer(type="text", value="Yes")
    two = VLM_R1 | {"image": ["a.jpg", "b.jpg"]}
    two["conversations"] = [{"from": "human", "value": "<image><image> The dog?"}, VLM_R1["conversations"][1]]
    assert len(one(tmp_path, "vlm-r1", two).media) == 2


def test_vlm_r1_rows_with_several_labelled_boxes(tmp_path):
    text = '```json\n[{"bbox_2d": [1, 2, 30, 40], "label": "cat"}, {"bbox_2d": [5, 6, 70, 80], "label": "dog"}]\n```'
    for method in ("od_ap", "weighted_sum"):
        sample = one(tmp_path, "vlm-r1", VLM_R1 | gold(f"<answer>{text}</answer>") | {"accu_reward_method": method})
        assert sample.answer == Answer(type="boxes", value=((1, 2, 30, 40), (5, 6, 70, 80)))
        assert sample.metadata == {"labels": ["cat", "dog"]}
    nothing = one(tmp_path, "vlm-r1", VLM_R1 | gold("None") | {"accu_reward_method": "od_ap"})
    assert (nothing.answer.value, nothing.metadata) == ((), {"labels": []})
    assert reason(tmp_path, "vlm-r1", VLM_R1, **gold("a cat"), accu_reward_method="map") == "answer is no list of boxes"


def test_vlm_r1_rows_that_do_not_fit(tmp_path):
    def why(**changes):
        return reason(tmp_path, "vlm-r1", VLM_R1, **changes)

    assert why(**gold("the left one")) == "answer is no box"
    assert why(**gold("[200, 30, 12, 310]")) == "defective sample"
    assert why(accu_reward_method="llm") == "answer cannot be checked"
    assert why(conversations=VLM_R1["conversations"] * 2) == "not one question and one answer"
    assert why(conversations=...) == "no conversations"
    assert why(image=["a.jpg", "b.jpg"]) == "defective sample"  # one mark, two pictures


SEED: dict[str, Any] = {
    "sample_id": 17,
    "task_goal": "make coffee",
    "question": "What action should I take next?",
    "answer": "pour water",
    "negative_answers": ["open fridge", "wash cup", "cut bread", "sit down"],
    "task_progress_metadata": [{"narration_text": "fill kettle"}],
    "video_id": "P01_01",
    "video_source": "EpicKitchens",
    "video_basename": "17.mp4",
    "current_observation_basename": "17.png",
}


def test_a_seed_bench_r1_training_row_gets_the_same_options_every_time(tmp_path):
    sample = one(tmp_path, "seed-bench-r1", SEED)
    assert sample == one(tmp_path, "seed-bench-r1", SEED | {"negative_answers": SEED["negative_answers"][::-1]})
    assert sample.id == "EpicKitchens-17"
    assert len(set(sample.choices)) == 4
    assert set(sample.choices) <= {"pour water", *SEED["negative_answers"]}
    assert sample.choices["ABCD".index(sample.answer.value)] == "pour water"
    assert [(item.type, item.path) for item in sample.media] == [
        ("video", str(tmp_path / "videos/EpicKitchens/17.mp4")),
        ("image", str(tmp_path / "images/EpicKitchens/17.png")),
    ]
    assert sample.metadata == {"source": "EpicKitchens", "video": "P01_01", "goal": "make coffee"}


def test_the_right_option_of_seed_bench_r1_is_spread_over_the_letters(tmp_path):
    samples, _ = converted(tmp_path, "seed-bench-r1", *[SEED | {"sample_id": i} for i in range(200)])
    letters = [sample.answer.value for sample in samples]
    assert all(30 < letters.count(letter) < 70 for letter in "ABCD")


def test_a_seed_bench_r1_validation_row_keeps_its_options(tmp_path):
    texts = {"choice_a": "w", "choice_b": "x", "choice_c": "y", "choice_d": "z"}
    row = SEED | texts | {"golden_choice_idx": "C", "task_level": "L2", "task_progress_metadata": []}
    sample = one(tmp_path, "seed-bench-r1", row)
    assert sample.choices == ("w", "x", "y", "z")
    assert sample.answer.value == "C"
    assert [item.type for item in sample.media] == ["image"]
    assert sample.metadata["level"] == "L2"


def test_a_seed_bench_r1_row_with_too_few_wrong_answers(tmp_path):
    few = ["pour water", "wash cup", "wash cup", "cut bread"]
    assert reason(tmp_path, "seed-bench-r1", SEED, negative_answers=few) == "too few wrong answers"


def test_lists_and_lines_are_both_read_and_repeated_ids_made_unique(tmp_path):
    for lines in (True, False):
        samples, _ = converted(tmp_path, "video-r1", VIDEO_R1, VIDEO_R1, lines=lines)
        assert [sample.id for sample in samples] == ["CLEVRER-7", "CLEVRER-7-2"]


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no row of .* fits the format 'vlm-r1': no image \(2\)"):
        converted(tmp_path, "vlm-r1", VIDEO_R1, VIDEO_R1)
    with pytest.raises(DataError, match="Did you mean 'video-r1'"):
        converted(tmp_path, "video_r1", VIDEO_R1)
    with pytest.raises(DataError, match="does not exist"):
        convert_file(tmp_path / "none.json", "video-r1", media_root=tmp_path)
    with pytest.raises(DataError, match="media folder"):
        convert_file(tmp_path / "rows.json", "video-r1", media_root=tmp_path / "none")


def test_a_broken_line_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(VIDEO_R1) + '\n{"problem": \n[]\n')
    samples, dropped = convert_file(path, "video-r1", media_root=tmp_path)
    assert len(samples) == 1
    assert [(d.sample_id, d.reason) for d in dropped] == [
        ("rows.jsonl:2", "unreadable line"),
        ("rows.jsonl:3", "not an object"),
    ]


@pytest.mark.parametrize(
    ("text", "letters"),
    [("B", "B"), (" b ", "B"), ("(C)", "C"), ("C. a cup", "C"), ("A, C", "AC"), ("Both", ""), ("", ""), ("a cup", "")],
)
def test_letters_are_recognised(text, letters):
    assert letters_of(text) == list(letters)


def test_letters_before_options_are_removed_only_from_all_of_them():
    assert without_letters(["A. x", "B. y"]) == ["x", "y"]
    assert without_letters(["(A) x", "(B)y"]) == ["x", "y"]
    assert without_letters(["A. x", "C. y"]) == ["A. x", "C. y"]
    assert without_letters(["A.", "B. y"]) == ["A.", "B. y"]


@pytest.mark.parametrize("text", ["", "140°", "three", "1 2", "1,2", "3,5", "nan", "inf", "50%", "1e9999"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(Unfit):
        number_of(text)


def test_the_command_writes_a_manifest_and_what_was_left_out(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text(json.dumps(VIDEO_R1) + "\n" + json.dumps(VIDEO_R1 | {"solution": "C"}))
    out = tmp_path / "new" / "train.jsonl"
    given = ("convert", "video-r1", tmp_path / "rows.jsonl", "--out", out, "--quiet")
    assert command(*given, "--dry-run") == 0
    assert "would hold 1 of 2 rows" in capsys.readouterr().out
    assert not out.parent.exists()
    assert command(*given) == 0
    assert "answer is no option" in capsys.readouterr().out
    assert [sample.id for sample in read_manifest(out)] == ["CLEVRER-7"]
    listed = json.loads((tmp_path / "new" / "train.dropped.jsonl").read_text())
    assert (listed["file"], listed["row"], listed["reason"]) == (
        str(tmp_path / "rows.jsonl"),
        "2",
        "answer is no option",
    )
    assert command(*given) == 2
    assert "not overwritten" in capsys.readouterr().err


def test_columns_and_constants_read_a_table_of_ones_own(tmp_path):
    (tmp_path / "table.csv").write_text("file_name,label\na.png,cat\nb.png,cow\n")
    fields = ("--column", "answer=label", "--constant", "question=What is it?", "--constant", "choices=[dog, cat]")
    out = tmp_path / "out.jsonl"
    assert command("convert", "columns", tmp_path / "table.csv", "--out", out, "--quiet", *fields) == 0
    (sample,) = read_manifest(out)
    assert (sample.question, sample.choices, sample.answer.value) == ("What is it?", ("dog", "cat"), "B")
    assert [line["reason"] for line in read(tmp_path / "out.dropped.jsonl")] == ["answer is no option"]


def test_where_nothing_fits_the_list_says_why_and_no_manifest_appears(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("{}\n[]\n")
    assert command("convert", "trl", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl", "--quiet") == 2
    assert "no row is left of 2" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert len(read(tmp_path / "out.dropped.jsonl")) == 2
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert command("convert", "trl", empty, "--out", tmp_path / "none.jsonl", "--quiet") == 2


def test_the_help_page_names_every_format():
    text = CliRunner().invoke(app, ["convert", "--help"]).stdout
    assert all(name in text for name in FORMATS)
