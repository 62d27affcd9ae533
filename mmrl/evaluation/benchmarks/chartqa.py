"""ChartQA's relaxed accuracy (arXiv:2203.10244), as the usual evaluation code has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrl.evaluation.benchmarks.stored import Stored, text_field
from mmrl.evaluation.votes import figure

TOLERANCE = 0.05


def relaxed_accuracy(prediction: str, gold: str) -> float:
    """Numbers, a final "%" dividing by 100: |p − g| / |g| of at most 0.05. A gold of 0, and all else: equal texts in
    any case. What Python reads as a number is one ("nan", "1e3"); "$5" and "1,000" are not.
    """
    said, target = _number(prediction), _number(gold)
    if said is not None and target:
        return float(abs(said - target) / abs(target) <= TOLERANCE)
    return float(prediction.lower() == gold.lower())


def score(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `answer` (or `label`) and, where it is known, `type` (human_test, augmented_test)."""
    gold = row.get("label")
    if isinstance(gold, list) and len(gold) == 1:
        row = {**row, "label": gold[0]}
    kind = str(row.get("type") or row.get("human_or_machine") or "")
    said, target = prediction.strip(), text_field(row, "answer", "label").strip()
    number = _number(said)
    return Stored(
        accuracy=relaxed_accuracy(said, target),
        answer=(said.lower() or None) if number is None or not _number(target) else figure(number),
        slices={"type": kind} if kind else {},
    )


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None
