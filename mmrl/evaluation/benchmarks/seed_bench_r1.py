"""SEED-Bench-R1 (arXiv:2503.24376), as its public code scores: accuracy on each of three levels of generalisation.

    L1  the environments of the training data     L2  other environments     L3  other environments and tasks

A prediction is right where `math_verify` takes it for the gold answer or, else, where the first character of its first
`<answer>` block is the gold's: so "Both" and "Because" are a B, while "(B)" and "b" are none. Without a block it is
wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.math_equal import math_equal
from mmrl.evaluation.benchmarks.stored import Stored, text_field
from mmrl.evaluation.result import SampleRow

KEY = "level"  # of the metadata
LEVELS = ("L1", "L2", "L3")

_BLOCK = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_FORM = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)  # from the start; text may follow


def accuracy_of(prediction: str, gold: str) -> float:
    """`gold` is a letter."""
    if math_equal(prediction, f"<answer>{gold}.</answer>"):
        return 1.0
    return float(read_letter(prediction) == gold[:1])


def read_letter(prediction: str) -> str | None:
    """The first character of the first block; None where there is none."""
    block = _BLOCK.search(prediction)
    return block[1].strip()[:1] or None if block else None


def level_of(row: Mapping[str, Any]) -> str:
    """ "L1", "L2" or "L3"; the benchmark's rows say it in `task_level`."""
    said = text_field(row, "task_level", "level").strip().upper()
    level = said if said in LEVELS else f"L{said}"
    if level not in LEVELS:
        raise DataError(f"its level is {said!r}; the benchmark has {', '.join(LEVELS)}")
    return level


def score(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `golden_choice_idx` (the letter) and `task_level`."""
    gold = text_field(row, "golden_choice_idx", "answer").strip()
    if not re.fullmatch("[A-Z]", gold):
        raise DataError(f"the gold answer is {gold!r}; it must be the letter of an option (golden_choice_idx)")
    value = accuracy_of(prediction, gold)
    return Stored(
        accuracy=value,
        answer=gold if value else read_letter(prediction),
        slices={KEY: level_of(row)},
        format=float(_FORM.match(prediction) is not None),
    )


def figures(rows: Sequence[SampleRow]) -> dict[str, list[list[list[float]]]]:
    """Accuracy per level. Empty where not every row has one of the levels."""
    levels = [row.slices.get(KEY, "") for row in rows]
    if not all(level in LEVELS for level in levels):
        return {}
    found = {level: [row.accuracy for row, own in zip(rows, levels, strict=True) if own == level] for level in LEVELS}
    return {level: [[values]] for level, values in found.items() if values}
