"""VLM-R1 referring expressions (RefCOCO and the like): JSON lines.

    {"id": 1, "image": "train2014/COCO_train2014_000000123456.jpg", "conversations": [
       {"from": "human", "value": "<image>Please provide the bounding box … describes: the left dog."},
       {"from": "gpt", "value": "[12, 30, 200, 310]"}]}

Its test files are lists of {"image", "problem": "Please provide …", "solution": [12, 30, 200, 310]}, without ids.

Boxes are pixels of the original picture. Rows of other kinds say so in `accu_reward_method`: `mcq` (a letter; the
options stand in the question), `yes_no` and `all_match` (text), `math`, and for the detection of several things `map`,
`od_ap`, `od_ap50`, `odLength`, `weighted_sum` (a list of {"bbox_2d": […], "label": "…"} in a ```json block, or None;
the labels become metadata["labels"]). Rows judged by a model (`llm`) cannot be checked and are left out.
"""

from __future__ import annotations

import json
import re
from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, letters_of, relative_path, tagged_answer, text_of

_TYPES = {
    "default": "box",
    "mcq": "choice",
    "yes_no": "text",
    "all_match": "text",
    "math": "math",
    **dict.fromkeys(("map", "od_ap", "od_ap50", "odLength", "weighted_sum"), "boxes"),
}
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def vlm_r1_row(row: ForeignRow) -> ManifestRow:
    """One line."""
    method = str(row.get("accu_reward_method") or "default")
    if method not in _TYPES:
        raise Unfit("answer cannot be checked", f"accu_reward_method is {method!r}")
    question, gold = _turns(row)
    images = row.get("image")
    paths = images if isinstance(images, list) else [text_of(row, "image")]
    made: ManifestRow = {
        "id": text_of(row, "id") if "conversations" in row else str(row.get("id") or "vlm-r1"),
        "task": _TYPES[method],
        "question": question,
        "media": [{"type": "image", "path": relative_path(str(path))} for path in paths],
    }
    if _TYPES[method] == "boxes":
        boxes, labels = _detections(tagged_answer(gold))
        return {**made, "answer": {"type": "boxes", "value": boxes}, "metadata": {"labels": labels}}
    return {**made, "answer": _answer(_TYPES[method], tagged_answer(gold))}


def _turns(row: ForeignRow) -> tuple[str, str]:
    if "conversations" not in row and "problem" in row:
        gold = row.get("solution")
        return text_of(row, "problem"), json.dumps(gold) if isinstance(gold, list) else text_of(row, "solution")
    turns = row.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Unfit("no conversations", "the field 'conversations' is missing or no list of turns")
    if [turn.get("from") for turn in turns] != ["human", "gpt"]:
        raise Unfit("not one question and one answer", f"the conversation has {len(turns)} turns")
    return text_of(turns[0], "value"), text_of(_as_text(turns[1]), "value")


def _as_text(turn: dict[str, Any]) -> dict[str, Any]:
    """Boxes are sometimes written as a list instead of its text."""
    return {**turn, "value": json.dumps(turn["value"])} if isinstance(turn.get("value"), list) else turn


def _detections(gold: str) -> tuple[list[Any], list[str]]:
    """(boxes, their labels); none where the gold is `None`."""
    if gold in ("None", "[]"):
        return [], []
    fenced = _FENCE.search(gold)
    try:
        found = json.loads(fenced[1] if fenced else gold)
        return [item["bbox_2d"] for item in found], [str(item["label"]) for item in found]
    except (ValueError, TypeError, KeyError):
        raise Unfit("answer is no list of boxes", f"the answer {gold[:40]!r} is no list of bbox_2d and label") from None


def _answer(type_: str, gold: str) -> dict[str, Any]:
    if type_ == "choice":
        letters = letters_of(gold)
        if len(letters) != 1:
            raise Unfit("answer is no option", f"the answer {gold[:40]!r} is no letter")
        return {"type": "choice", "value": letters[0]}
    if type_ != "box":
        return {"type": type_, "value": gold}
    try:
        value = json.loads(gold)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise Unfit("answer is no box", f"the answer {gold[:40]!r} is no list of numbers")
    return {"type": "box", "value": value}
