"""MathVista (arXiv:2310.02255): how its public code brings an extracted answer into the gold's form, and compares.

The benchmark lets a language model extract the answer from the text; here the prediction is that extraction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Stored, text_field

_LETTER = re.compile(r"\(([a-zA-Z])\)")


def normalised(prediction: str, row: Mapping[str, Any]) -> str | None:
    """In the form of the gold answer; None where it cannot be brought into it.

    Options: a letter, in brackets or alone, is its option's text; any other text the option that is nearest in edits.
    Numbers: a whole one is cut to "3", a decimal one rounded to the row's precision.
    """
    choices = row.get("choices")
    if text_field(row, "question_type") == "multi_choice":
        if not isinstance(choices, list) or not choices:
            raise DataError("a multi_choice row needs choices, a list of texts")
        said = prediction.strip()
        letters = _LETTER.findall(said)
        if letters:
            said = letters[0].upper()
        place = ord(said) - ord("A") if len(said) == 1 else -1
        return str(choices[place]) if 0 <= place < len(choices) else _nearest(said, [str(c) for c in choices])
    kind = text_field(row, "answer_type")
    try:
        if kind == "integer":
            return str(int(float(prediction)))
        if kind == "float":
            return str(round(float(prediction), int(float(row.get("precision") or 0))))
    except (ValueError, OverflowError):
        return None
    return prediction


def score(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `question_type`, `answer_type`, `choices`, `precision`, `answer` and the prediction."""
    said = normalised(prediction, row)
    value = float(said == text_field(row, "answer"))
    metadata = row.get("metadata")
    about = metadata if isinstance(metadata, Mapping) else {}
    slices = {key: str(about[key]) for key in ("task", "category") if about.get(key)}
    return Stored(accuracy=value, answer=said, slices=slices)


def _nearest(said: str, choices: list[str]) -> str:
    from rapidfuzz.distance import Levenshtein

    distances = [Levenshtein.distance(said, choice) for choice in choices]
    return choices[distances.index(min(distances))]
