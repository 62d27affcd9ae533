"""SEED-Bench-R1 (what to do next, seen from one's own eyes): JSON lines.

    {"sample_id": 17, "question": "… what action should I take next in order to make coffee?", "answer": "pour water",
     "negative_answers": ["open fridge", "wash cup", "cut bread"], "task_progress_metadata": [{…}],
     "video_source": "EpicKitchens", "video_basename": "17.mp4", "current_observation_basename": "17.png"}

Validation rows have `choice_a` … `choice_d` and `golden_choice_idx` instead. The progress so far is a video (none where
`task_progress_metadata` is empty), the current observation a picture after it. Of a training row's wrong answers, three
are drawn and the options are ordered by the row's own name: always the same, whereas the authors' trainer draws anew.
"""

from __future__ import annotations

from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, choice_answer, letters_of, text_of
from mmrl.data.split import shuffle_key
from mmrl.types import LETTERS

_WRONG_OPTIONS = 3


def seed_bench_r1_row(row: ForeignRow) -> ManifestRow:
    """One line, of the training or the validation files."""
    name = text_of(row, "sample_id" if row.get("sample_id") is not None else "id")
    source = text_of(row, "video_source")
    media = []
    if row.get("task_progress_metadata"):
        media.append({"type": "video", "path": f"videos/{source}/{text_of(row, 'video_basename')}"})
    media.append({"type": "image", "path": f"images/{source}/{text_of(row, 'current_observation_basename')}"})
    choices, answer = _stated(row) if row.get("golden_choice_idx") is not None else _drawn(row, name)
    metadata = {
        "source": source,
        "video": row.get("video_id"),
        "level": row.get("task_level"),
        "goal": row.get("task_goal"),
    }
    return {
        "id": f"{source}-{name}",
        "task": "choice",
        "question": text_of(row, "question"),
        "media": media,
        "choices": choices,
        "answer": answer,
        "metadata": {key: value for key, value in metadata.items() if value is not None},
    }


def _stated(row: ForeignRow) -> tuple[list[str], dict[str, Any]]:
    choices = [text_of(row, f"choice_{letter}") for letter in "abcd"]
    return choices, choice_answer(letters_of(text_of(row, "golden_choice_idx")), choices)


def _drawn(row: ForeignRow, name: str) -> tuple[list[str], dict[str, Any]]:
    right = text_of(row, "answer")
    wrong = row.get("negative_answers")
    others = sorted({str(text) for text in wrong} - {right}) if isinstance(wrong, list) else []
    if len(others) < _WRONG_OPTIONS:
        raise Unfit("too few wrong answers", f"{len(others)} different wrong answers; {_WRONG_OPTIONS} are needed")
    drawn = sorted(others, key=lambda text: shuffle_key(f"{name} draw {text}", 0))[:_WRONG_OPTIONS]
    choices = sorted([right, *drawn], key=lambda text: shuffle_key(f"{name} place {text}", 0))
    return choices, {"type": "choice", "value": LETTERS[choices.index(right)]}
