"""VSI-Bench (arXiv:2412.14171), as its public code scores and averages.

A prediction is its first word, without dots at its end. Options: equal letters, in any case. Numbers: mean relative
accuracy over the thresholds 0.50, 0.55, … 0.95, an error |p − g| / g of at most 1 − θ reaching θ; what is no number is
worth 0. Questions of one type are averaged; the three levels of relative direction become one type; the overall figure
is the mean of the (eight) types, not of the questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Stored, text_field
from mmrl.evaluation.result import SampleRow
from mmrl.evaluation.votes import figure

KEY = "question_type"  # of the metadata
NUMBERS = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")
DIRECTIONS = ("object_rel_direction_easy", "object_rel_direction_medium", "object_rel_direction_hard")
CHOICES = (*DIRECTIONS, "object_rel_distance", "route_planning", "obj_appearance_order")
TERMS = (  # what the overall figure is the mean of
    "obj_appearance_order",
    "object_abs_distance",
    "object_counting",
    "object_rel_direction",
    "object_rel_distance",
    "object_size_estimation",
    "room_size_estimation",
    "route_planning",
)
_STEPS = 10  # thresholds, equally spaced from 0.5 to 0.95


def read_prediction(prediction: str) -> str:
    """What the benchmark takes for the answer: up to the first space (a text that begins with one is no answer)."""
    return prediction.split(" ")[0].rstrip(".").strip()


def read_number(prediction: str) -> float | None:
    """What Python reads as a number: "1e3" is one, "1,000" is none."""
    try:
        return float(read_prediction(prediction))
    except ValueError:
        return None


def accuracy_of(prediction: str, gold: str) -> float:
    """Of a question with options."""
    return float(read_prediction(prediction).lower() == gold.lower())


def mra_of(prediction: str, gold: float) -> float:
    """Of a question for a number. The error is divided by the gold with its sign, so any answer reaches a negative one;
    gold 0 raises DataError, as the code raises.

    Example: 8 for 10 is off by 0.2, which reaches 0.50, 0.55, … 0.80: 0.7.
    """
    if gold == 0:
        raise DataError("the gold number is 0, by which the benchmark divides; leave the row out")
    said = read_number(prediction)
    if said is None:
        return 0.0
    error = abs(said - gold) / gold
    # As numpy's linspace makes them: 0.5 + i · step.
    step = (0.95 - 0.5) / (_STEPS - 1)
    thresholds = [*(0.5 + i * step for i in range(_STEPS - 1)), 0.95]
    return sum(error <= 1 - threshold for threshold in thresholds) / _STEPS


def score(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `question_type`, `ground_truth` and the prediction."""
    kind = text_field(row, KEY)
    gold = text_field(row, "ground_truth")
    if kind in CHOICES:
        said = read_prediction(prediction).lower() or None
        return Stored(accuracy=accuracy_of(prediction, gold), answer=said, task="vsi_choice", slices={KEY: kind})
    if kind not in NUMBERS:
        raise DataError(f"question_type is {kind!r}; the benchmark knows {', '.join((*CHOICES, *NUMBERS))}")
    try:
        number = float(gold)
    except ValueError:
        raise DataError(f"ground_truth is {gold!r}, and a question of type {kind!r} needs a number") from None
    value = mra_of(prediction, number)
    found = read_number(prediction)
    return Stored(
        accuracy=value,
        answer=None if found is None else figure(found),
        measures={"mra": value},
        task="vsi_number",
        slices={KEY: kind},
    )


def figures(rows: Sequence[SampleRow]) -> dict[str, list[list[list[float]]]]:
    """Per type, in the order of the code, and overall. Numbers count by their mean relative accuracy, options by their
    accuracy. Empty where not every row is of one of the types. Types without a row are left out of the mean.
    """
    kinds = [row.slices.get(KEY, "") for row in rows]
    if not all(kind in CHOICES or kind in NUMBERS for kind in kinds):
        return {}
    values: dict[str, list[float]] = {}
    for row, kind in zip(rows, kinds, strict=True):
        values.setdefault(kind, []).append(row.measures.get("mra", row.accuracy) if kind in NUMBERS else row.accuracy)
    terms = {}
    for term in TERMS:
        parts = [values[kind] for kind in (DIRECTIONS if term == "object_rel_direction" else (term,)) if kind in values]
        if parts:
            terms[term] = parts
    return {**{term: [parts] for term, parts in terms.items()}, "overall": list(terms.values())}
