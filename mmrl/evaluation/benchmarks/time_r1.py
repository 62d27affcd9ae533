"""Moments in clips (Charades-STA, ActivityNet Captions), as Time-R1's public code scores them (arXiv:2503.13377).

A prediction's span is the last "X to Y" (or "X and Y", one space on either side) in its last `<answer>` block. The IoU
is the overlap over the hull of both, which is the plain one where they overlap, and 0 where they do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Stored, numbers_field
from mmrl.evaluation.measures import IOU_THRESHOLDS
from mmrl.evaluation.votes import figures

_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SPAN = re.compile(r"(\d+(?:\.\d+)?) (?:to|and) (\d+(?:\.\d+)?)")
_FORM = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)


def read_span(prediction: str) -> tuple[float, float] | None:
    """In seconds; None where none is found. It may be reversed."""
    blocks = _BLOCK.findall(prediction)
    spans = _SPAN.findall(blocks[-1]) if blocks else []
    return (float(spans[-1][0]), float(spans[-1][1])) if spans else None


def hull_iou(said: tuple[float, float], gold: tuple[float, float]) -> float:
    """max(0, overlap) / (latest end − earliest start)."""
    overlap = max(0.0, min(said[1], gold[1]) - max(said[0], gold[0]))
    hull = max(said[1], gold[1]) - min(said[0], gold[0])
    return overlap / hull if hull > 0 else 0.0


def score(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `timestamp` ([start, end] in seconds) and the prediction. Accuracy is the IoU."""
    start, end = numbers_field(row, 2, "timestamp", "solution")
    if end <= start:
        raise DataError(f"timestamp is {[start, end]}; it must end after it starts")
    said = read_span(prediction)
    overlap = hull_iou(said, (start, end)) if said else 0.0
    reached = {f"iou_at_{threshold}": float(overlap >= threshold) for threshold in IOU_THRESHOLDS}
    return Stored(
        accuracy=overlap,
        answer=figures(said) if said else None,
        measures={"iou": overlap, **reached},
        format=float(_FORM.fullmatch(prediction.strip()) is not None),
    )
