"""Places in pictures: VLM-R1's referring expressions (arXiv:2504.07615) and ScreenSpot (arXiv:2401.10935)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Stored, numbers_field
from mmrl.evaluation.measures import IOU_THRESHOLDS
from mmrl.evaluation.votes import figures

_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOX = re.compile(r"\[(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\]")  # no sign, no decimals, no space after the bracket
_NUMBER = r"\s*([-+]?\d*\.?\d+)\s*"
_POINT = re.compile(rf"[\[(]{_NUMBER},{_NUMBER}[\])]")
_CORNERS = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]")


def read_box(prediction: str) -> list[float] | None:
    """Of the first `<answer>` block, between its first "{" and its last "}", the *last* four whole numbers in brackets.

    The benchmark asks for JSON and looks for a brace, as much as there may be, a box, and a closing brace. So a box
    without braces is none, of several the last one counts, and the answer's label may be anything. (The reward that
    VLM-R1 trains with takes the first box, braces or not.)
    """
    block = _BLOCK.search(prediction)
    inside = block[1].strip() if block else ""
    found = _BOX.findall(inside[inside.find("{") + 1 : inside.rfind("}")]) if "{" in inside and "}" in inside else []
    return [float(number) for number in found[-1]] if found else None


def inclusive_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Overlap counted in whole pixels, the last column and row left out and put back; areas counted without.

    The continuous IoU, but for overlaps of one pixel in width or height, which count 0.
    """
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[2] - 1, b[2] - 1), min(a[3] - 1, b[3] - 1)
    overlap = (right - left + 1) * (bottom - top + 1) if left < right and top < bottom else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union else 0.0


def score_box(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `solution`, the gold box in pixels of the original, and the prediction.

    As VLM-R1's `src/eval/test_rec_r1.py` reads (`read_box`) and compares: right from an IoU above 0.5. The box is in
    pixels of the original; or of the picture as the model saw it, where `model_size` and `image_size` ([width, height])
    say how to convert.
    """
    gold = numbers_field(row, 4, "solution", "bbox")
    box = read_box(prediction)
    said = figures(box) if box else None
    overlap = 0.0
    if box:
        if row.get("model_size") is not None:
            seen, whole = numbers_field(row, 2, "model_size"), numbers_field(row, 2, "image_size")
            box = [number / seen[i % 2] * whole[i % 2] for i, number in enumerate(box)]
        overlap = inclusive_iou(box, gold)
    reached = {f"iou_at_{threshold}": float(overlap >= threshold) for threshold in IOU_THRESHOLDS}
    return Stored(accuracy=float(overlap > 0.5), answer=said, measures={"iou": overlap, **reached})


def score_point(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `bbox` ([x1, y1, x2, y2] in 0–1), `data_type`, `data_source` and the prediction.

    The point is the prediction's first pair of numbers in brackets, or the centre of its first four; where a number is
    above 1 all are thousandths. Right inside the gold box, edges included.
    """
    gold = numbers_field(row, 4, "bbox")
    if max(gold) > 1:
        raise DataError(f"bbox is {gold}; these rules compare in 0–1: divide by the picture's width and height")
    slices = {key: str(row[key]) for key in ("data_type", "data_source") if row.get(key)}
    corners = _CORNERS.search(prediction)
    pair = _POINT.search(prediction)
    if corners and (pair is None or corners.start() <= pair.start()):
        numbers = [float(number) for number in corners.groups()]
    elif pair:
        numbers = [float(number) for number in pair.groups()]
    else:
        return Stored(accuracy=0.0, slices=slices)
    if max(numbers) > 1:
        numbers = [number / 1000 for number in numbers]
    x = sum(numbers[0::2]) / len(numbers[0::2])
    y = sum(numbers[1::2]) / len(numbers[1::2])
    inside = gold[0] <= x <= gold[2] and gold[1] <= y <= gold[3]
    return Stored(accuracy=float(inside), answer=figures([x, y]), slices=slices)
