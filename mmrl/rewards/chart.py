"""Answers about charts: numbers within 5 %, texts equal."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.normalize import plain
from mmrl.rewards.quantity import LONGEST, Quantity, convert, read_quantity
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

_YEAR = re.compile(r"1[5-9]\d\d|20\d\d|2100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Relaxed accuracy: 1 where |said − gold| ≤ tolerance · |gold|, or both are the same text but for case. ChartQA,
    arXiv:2203.10244; the chart reward of Mixed-R1, arXiv:2505.24164.

    Departs from the published metric where it can be won by guessing or fails on good answers: a year (a gold of four
    digits between 1500 and 2100) must be exact unless `years_exact` is off, since 5 % of 2000 is a century; gold 0 is
    compared as a number; thousands separators, currency and percent signs are read.
    """

    tolerance: float = 0.05
    years_exact: bool = True
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type not in ("number", "text"):
            raise wrong_type(sample, "chart", "number, text")
        answer = answer_text(completion, self.answer_tag)
        if not answer or len(answer) > LONGEST + 2 * len(str(sample.answer.value)):
            return unanswered(completion, "short enough", self.answer_tag)
        written = _written(sample)
        gold = _gold_quantity(sample, written)
        if gold is None:
            return Score(value=float(plain(answer) == plain(written)))
        said = read_quantity(answer)
        if said is None:
            return unanswered(completion, "one number", self.answer_tag)
        exact = self.years_exact and _YEAR.fullmatch(written) is not None
        allowed = 0.0 if exact else self.tolerance * abs(gold.value)
        values = _readings(said, gold)
        right = any(abs(value - gold.value) <= allowed + 1e-12 for value in values)
        return Score(value=float(right), details={"answer": values[0] if values else None})


def _written(sample: Sample) -> str:
    value = sample.answer.value
    if sample.answer.type == "number" and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _gold_quantity(sample: Sample, written: str) -> Quantity | None:
    """The gold number. A text is one only if nothing else is in it: "14", "12.5%", "$1,200", not "Q3 of 2019"."""
    if sample.answer.type == "number":
        unit = (sample.answer.unit or "").lower()
        return Quantity(float(sample.answer.value), unit)
    bare = re.sub(r"[\s$€£%,]|percent", "", written)
    return read_quantity(written) if re.fullmatch(r"[-+]?(?:\d+\.?\d*|\.\d+)", bare) else None


def _readings(said: Quantity, gold: Quantity) -> list[float]:
    """What the said number may mean in the gold's unit; a percentage against a bare gold means p or p / 100."""
    if gold.unit:
        value = convert(said, gold.unit)
        return [] if value is None else [value]
    return [said.value, said.value / 100.0] if said.unit in ("%", "percent", "per cent") else [said.value]
