"""GEOQA and SuperCLEVR counting as R1-V's public evaluation scores them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.math_equal import math_equal, read_math
from mmrl.evaluation.benchmarks.stored import Stored, text_field

_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_COUNT = re.compile(r"<answer>\s*(\d+)\s*</answer>")


def score_geometry(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `ground_truth` ("140°") and the prediction: equal by `math_verify`, all of the prediction against the
    gold, as in R1-V's `src/eval/test_qwen2vl_geoqa.py` and its multi-GPU form; or the same stripped text as the first
    `<answer>` block's, as in its accuracy reward. Those scripts lack the second: it tells only where `math_verify`
    reads nothing in the gold, a letter say, which they can never find right. Units count as `math_verify` counts them.
    """
    gold = text_field(row, "ground_truth", "solution")
    block = _BLOCK.search(prediction)
    said = (block[1] if block else prediction).strip()
    inner = _BLOCK.search(gold)
    right = math_equal(prediction, gold) or said == (inner[1] if inner else gold).strip()
    return Stored(accuracy=float(right), answer=read_math(prediction) or said or None)


def score_count(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `ground_truth` (a whole number) and the prediction: the same number in an `<answer>` block."""
    written = text_field(row, "ground_truth")
    try:
        gold = int(written)
    except ValueError:
        raise DataError(f"ground_truth is {written!r}; it must be a whole number") from None
    found = _COUNT.search(prediction)
    said = int(found[1]) if found else None
    return Stored(accuracy=float(said == gold), answer=None if said is None else str(said))
