"""MMMU's questions with options (arXiv:2311.16502), as its `eval/eval_utils.py` reads them. Open ones are not covered.

Looked for, each in turn: "(A)", then " A ", then "A.", then, in a text of more than five words, the options' own texts;
of several that are found the one that stands last, of options whose texts begin at the same place the first. Where
nothing is found the benchmark guesses, and so does this: by a generator that starts at 42 and is asked in the order of
the file. Never a reward.

"A." is no step of MMMU's own file but of its copy in lmms-eval, where of several the first option counts; here the one
that stands last, as in all other steps.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Stored, text_field

_MARKS = ",.!?;:'"
_WORDS = 5  # in a text of at most so many, options' texts are not looked for


def read_choice(response: str, options: Sequence[str], guess: random.Random) -> str:
    """A letter."""
    letters = [chr(ord("A") + i) for i in range(len(options))]
    for mark in _MARKS:  # one after the other: "B.," loses its comma and its dot, "B,." only the dot … and spaces stay
        response = response.strip(mark)
    text = f" {response} "
    found = [(text.rfind(f"({letter})"), letter) for letter in letters if f"({letter})" in text]
    found = found or [(text.rfind(f" {letter} "), letter) for letter in letters if f" {letter} " in text]
    found = found or [(text.rfind(f"{letter}."), letter) for letter in letters if f"{letter}." in text]
    if not found and len(text.split()) > _WORDS:
        lower = text.lower()
        found = [
            (lower.rfind(option.lower()), letter)
            for letter, option in zip(letters, options, strict=True)
            if option.lower() in lower
        ]
    return max(found, key=lambda place: place[0])[1] if found else guess.choice(letters)  # of equal places the first


class Rule:
    """Scores the lines of one file, in their order."""

    def __init__(self) -> None:
        self._guess = random.Random(42)

    def __call__(self, prediction: str, row: Mapping[str, Any]) -> Stored:
        """A line with `question_type` multiple-choice, `options`, `answer` (a letter) and the prediction."""
        if row.get("question_type", "multiple-choice") != "multiple-choice":
            raise DataError("an open question: these rules cover those with options; leave the row out")
        options = row.get("options")
        if isinstance(options, str):  # as the data set stores them
            try:
                options = ast.literal_eval(options)
            except (ValueError, SyntaxError):
                options = None
        if not isinstance(options, list) or not options:
            raise DataError("options must be a list of texts, or one written as in Python")
        said = read_choice(prediction, [str(option) for option in options], self._guess)
        slices = {"subfield": str(row["subfield"])} if row.get("subfield") else {}
        return Stored(accuracy=float(said == text_field(row, "answer")), answer=said, slices=slices)
