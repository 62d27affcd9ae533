"""Video-R1's evaluation files (arXiv:2503.21776), as its public code scores them; VideoRFT and GRPO-CARE use the same.

The answer is the first `<answer>` block, or all of the output where there is none or an empty one. By `problem_type`:

    multiple choice  the same text
    numerical        both or neither written with "." or ",", and equal when rounded to two decimals
    regression       mean relative accuracy: |p − g| / (|g| + 1e-8) below 1 − θ, in single precision, so that an error
                     of exactly 1 − θ does not reach θ (VSI-Bench's own rule lets it)
    OCR              1 − word error rate, at least 0; case counts
    free-form        mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L with stemming: 2 / 3 for the same single word
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Stored, text_field
from mmrl.evaluation.votes import figure

_BLOCK = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_THRESHOLDS = (0.5 + 0.05 * np.arange(10)).astype(np.float32)
TYPES = ("multiple choice", "numerical", "regression", "OCR", "free-form")


def answer_of(output: str) -> str:
    """The first block's content; all of the output where that is empty."""
    return _first_block(output) or output


def relative_accuracy(said: float, gold: float) -> float:
    """Strict, and in single precision. Example: 8 for 10, off by 0.2: 0.6 (0.7 by VSI-Bench's rule)."""
    p, g = np.float32(said), np.float32(gold)
    error = np.abs(p - g) / (np.abs(g) + np.float32(1e-8))
    return float(np.mean(error < np.float32(1) - _THRESHOLDS))


def score(prediction: str, row: Mapping[str, Any]) -> Stored:
    """A line with `problem_type`, `solution` ("<answer>…</answer>") and the prediction."""
    kind = text_field(row, "problem_type")
    gold, said = _first_block(text_field(row, "solution")), answer_of(prediction)
    slices = {"source": str(row["data_source"])} if row.get("data_source") else {}
    p, measures = _number(said), {}
    vote: str | None
    match kind:
        case "multiple choice":
            value, vote = float(said.strip() == gold.strip()), said.strip()
        case "numerical":
            value, vote = _numerical(said, gold), None if p is None else f"{round(p, 2)}{'.' * _marked(said)}"
        case "regression":
            g = _number(gold)
            value, vote = 0.0 if p is None or g is None else relative_accuracy(p, g), None if p is None else figure(p)
            measures = {"mra": value}
        case "OCR":
            value, vote = min(1.0, max(0.0, 1.0 - _word_error_rate(gold, said))), " ".join(said.split())
        case "free-form":
            value, vote = min(1.0, max(0.0, _rouge(gold, said))), " ".join(_tokens(said))
        case _:
            raise DataError(f"problem_type is {kind!r}; the files know {', '.join(TYPES)}")
    return Stored(accuracy=value, answer=vote or None, task=kind.replace(" ", "_"), measures=measures, slices=slices)


def _first_block(text: str) -> str:
    found = _BLOCK.search(text)
    return found[1].strip() if found else ""


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _numerical(said: str, gold: str) -> float:
    if _marked(said) != _marked(gold):
        return 0.0
    p, g = _number(said), _number(gold)
    return float(p is not None and g is not None and round(p, 2) == round(g, 2))


def _marked(number: str) -> bool:
    return "." in number or "," in number


def _word_error_rate(gold: str, said: str) -> float:
    from rapidfuzz.distance import Levenshtein

    reference = gold.split()
    return Levenshtein.distance(reference, said.split()) / max(1, len(reference))


def _rouge(gold: str, said: str) -> float:
    """As the `rouge-score` package counts: words of a–z and digits, those of more than three letters stemmed."""
    target, given = _tokens(gold), _tokens(said)
    parts = [_f1(_common(target, given, n), len(target) + 1 - n, len(given) + 1 - n) for n in (1, 2)]
    return sum([*parts, _f1(_longest(target, given), len(target), len(given))]) / 3


def _tokens(text: str) -> list[str]:
    stemmer = _stemmer()
    words = re.sub("[^a-z0-9]+", " ", text.lower()).split()
    return [stemmer.stem(word) if len(word) > 3 else word for word in words]


def _common(target: Sequence[str], given: Sequence[str], n: int) -> int:
    counts = [Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (target, given)]
    return (counts[0] & counts[1]).total()


def _longest(target: Sequence[str], given: Sequence[str]) -> int:
    from rapidfuzz.distance import LCSseq

    return int(LCSseq.similarity(target, given))


def _f1(hits: int, wanted: int, given: int) -> float:
    return 2.0 * hits / (wanted + given) if hits else 0.0


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

    return PorterStemmer()
