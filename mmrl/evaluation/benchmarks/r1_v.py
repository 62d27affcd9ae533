"""GEOQA and SuperCLEVR counting as R1-V's public evaluation scores them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.math_equal import math_equal
from mmrl.evaluation.benchmarks.stored import Stored, text_field

_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_COUNT = re.compile(r"<answer>\s*(\d+)\s*</answer>")


def score_geometry(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `ground_truth` ("140°") and the prediction: equal by `math_verify`, or the same stripped text as the
    first `<answer>` block's. Units count: "140" is not "140°" unless `math_verify` takes it for that.
    """
    gold = text_field(row, "ground_truth", "solution")
    block = _BLOCK.search(prediction)
    said = (block[1] if block else prediction).strip()
    inner = _BLOCK.search(gold)
    return Stored(accuracy=float(math_equal(prediction, gold) or said == (inner[1] if inner else gold).strip()))


def score_count(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `ground_truth` (a whole number) and the prediction: the same number in an `<answer>` block."""
    written = text_field(row, "ground_truth")
    try:
        gold = int(written)
    except ValueError:
        raise DataError(f"ground_truth is {written!r}; it must be a whole number") from None
    found = _COUNT.search(prediction)
    return Stored(accuracy=float(found is not None and int(found[1]) == gold))
