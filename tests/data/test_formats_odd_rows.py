"""Whatever stands in a row of another project, its format says Unfit or gives a row that is checked: nothing raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmrl.data.convert import examined, foreign_rows
from mmrl.data.formats.catalog import FORMATS
from mmrl.data.formats.row import Unfit
from mmrl.data.samples import sample_row

PICTURE = {"bytes": b"\x89PNG...", "path": "a.png"}
SOUND: dict[str, list[dict[str, Any]]] = {
    "video-r1": [
        {
            "problem_id": 7,
            "problem": "What?",
            "data_type": "video",
            "problem_type": kind,
            "options": ["A. cup", "B. book"],
            "process": "",
            "solution": f"<answer>{gold}</answer>",
            "path": "./v1.mp4",
            "data_source": "CLEVRER",
        }
        for kind, gold in (("multiple choice", "B"), ("numerical", "3"), ("free-form", "yes"))
    ],
    "vlm-r1": [
        {
            "id": 1,
            "image": "a.jpg",
            "accu_reward_method": method,
            "conversations": [{"from": "human", "value": "<image>Where?"}, {"from": "gpt", "value": gold}],
        }
        for method, gold in (("default", "[1, 2, 3, 4]"), ("mcq", "B"), ("od_ap", "None"))
    ],
    "seed-bench-r1": [
        {
            "sample_id": 1,
            "question": "What next?",
            "answer": "pour",
            "negative_answers": ["a", "b", "c"],
            "task_progress_metadata": [{}],
            "video_source": "Ego4D",
            "video_basename": "1.mp4",
            "current_observation_basename": "1.png",
        },
        {
            "sample_id": 1,
            "question": "What next?",
            "task_progress_metadata": [],
            "video_source": "Ego4D",
            "current_observation_basename": "1.png",
            "golden_choice_idx": "A",
            **{f"choice_{letter}": letter for letter in "abcd"},
        },
    ],
    "vsi": [
        {"id": 1, "dataset": "s", "scene_name": "x", "question_type": "object_counting", "question": "How many?",
         "ground_truth": "4", "options": None},
        {"id": 1, "dataset": "s", "scene_name": "x", "question_type": "route_planning", "question": "Which?",
         "ground_truth": "B", "options": ["A. a", "B. b"]},
    ],
    "geometry3k": [{"images": [PICTURE], "problem": "<image>Find x.", "answer": "3"}],
    "r1-v": [
        {"image": PICTURE, "problem": "How many?", "solution": "<answer> 3 </answer>"},
        {"image_path": "./a.png", "question": "Which?", "ground_truth": "140°"},
    ],
    "spans": [{"line": "AO8RW 0.0 6.9##a person walks."},
              {"key": "v", "duration": 10.0, "timestamps": [[0.0, 6.9]], "sentences": ["It goes."]}],
    "screenspot": [
        {"img_filename": "a.png", "bbox": [1, 2, 3, 4], "instruction": "close", "data_type": "icon"},
        {"file_name": "a.png", "bbox": [0.1, 0.2, 0.3, 0.4], "instruction": "close", "image": PICTURE},
    ],
    "chartqa": [{"imgname": "1.png", "query": "How many?", "label": "14"},
                {"image": PICTURE, "query": "How many?", "label": ["14"], "human_or_machine": 0}],
    "mathvista": [
        {"pid": "1", "question": "Which?", "decoded_image": PICTURE, "image": "a.jpg", "choices": ["1", "2"],
         "answer": "2", "question_type": "multi_choice", "answer_type": "text", "precision": None, "unit": None},
        {"pid": "1", "question": "Which?", "image": "a.jpg", "choices": None, "answer": "2.5",
         "question_type": "free_form", "answer_type": "float", "precision": 1.0, "unit": "m"},
    ],
    "mmmu": [{"id": "v_1", "question": "<image 1>?", "options": "['a', 'b']", "answer": "B", "image_1": PICTURE,
              "question_type": "multiple-choice"}],
    "sharegpt": [
        {"messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat"}],
         "images": ["a.jpg"], "videos": [], "answer_type": "auto"},
    ],
    "trl": [{"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}],
             "images": [PICTURE], "solution": "A cat"}],
    "columns": [{"question": "What?", "answer": "b", "choices": ["a", "b"], "image": PICTURE, "answer_type": "auto"},
                {"question": "What?", "answer": "[1, 2, 3, 4]", "video": "a.mp4", "answer_type": "box"}],
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, "", "  ", "x", 3, -1, 2.5, float("nan"), float("inf"), True, [], [[]], [None], {}, {"a": 1}, [1, 2], ["x", 3],
    [{"from": 1}], [{"role": "user", "content": 5}], "[", "{'a'", "../x", "<image>", "<answer></answer>", b"", b"xx",
    {"bytes": b"zz"}, {"path": None}, "A" * 30_000, 10**400,
)  # fmt: skip


def told(name: str, row: Any, root: Path) -> list[str]:
    """What becomes of a row: "sample" or the reason, per question."""
    found = []
    for _, made in foreign_rows([(1, row)], name):
        try:
            if isinstance(made, Unfit):
                raise made
            sample_row(examined(made, root=root), root=root)
            found.append("sample")
        except Unfit as why:
            found.append(why.reason if str(why) else "")
    assert all(found)
    return found


def test_every_format_has_sound_rows():
    assert set(SOUND) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_sound_rows_become_samples(name, tmp_path):
    for row in SOUND[name]:
        assert told(name, row, tmp_path) == ["sample"]


@pytest.mark.parametrize("name", FORMATS)
def test_odd_values_are_refused_or_checked_but_never_raise(name, tmp_path):
    refused = 0
    for row in SOUND[name]:
        for key in row:
            for odd in ODD:
                refused += told(name, {**row, key: odd}, tmp_path) != ["sample"]
            without = {other: value for other, value in row.items() if other != key}
            told(name, without, tmp_path)
    assert refused > 10
    for row in ODD:
        assert told(name, row, tmp_path) != ["sample"]
