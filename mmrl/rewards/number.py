"""One number: exact or within a tolerance, by relative error, and by mean relative accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.quantity import convert, read_quantity
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
_SLACK = 1e-12


def stated_value(completion: Completion, sample: Sample, tag: str, gold: float) -> float | None:
    """The number that a completion answers, in the gold answer's unit; None where it answers no single number.

    "50%" where the gold answer has no unit may mean 50 or 0.5: the reading nearer to `gold` is taken.
    """
    answer = answer_text(completion, tag)
    quantity = None if answer is None else read_quantity(answer)
    if quantity is None:
        return None
    unit = sample.answer.unit
    if unit:
        return convert(quantity, unit)
    if quantity.unit in ("%", "percent", "per cent"):
        return min(quantity.value, quantity.value / 100.0, key=lambda value: abs(value - gold))
    return quantity.value


def gold_number(sample: Sample, reward: str) -> float:
    if sample.answer.type != "number":
        raise wrong_type(sample, reward, "number")
    return float(sample.answer.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """1 where |said − gold| ≤ max(tolerance, relative_tolerance · |gold|), else 0.

    Compares values, not spellings: "3.0", "three" and "3" are the same number (arXiv:2503.21776's rule gives 0 there).
    """

    tolerance: float = 0.0  # in the gold answer's unit
    relative_tolerance: float = 0.0
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if not (0 <= self.tolerance < math.inf and 0 <= self.relative_tolerance < 1):
            raise ConfigError("reward 'number': tolerance must be at least 0, relative_tolerance in [0, 1).")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_number(sample, "number")
        said = stated_value(completion, sample, self.answer_tag, gold)
        if said is None:
            return _no_number(completion, sample, self.answer_tag)
        allowed = max(self.tolerance, self.relative_tolerance * abs(gold), 1e-9 * abs(gold))
        return Score(value=float(abs(said - gold) <= allowed + _SLACK), details={"answer": said})

    def verify(self, sample: Sample) -> None:
        verify_number(sample, "number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """1 − min(1, (|said − gold| + ε) / (|gold| + ε)), ε = 1e-9; the exact gold gives 1. arXiv:2503.21776 (code).

    Departs from the code in two points where it is wrong: NaN gives 0 there it gives 1; gold 0 said 0 gives 1, not 0.
    """

    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_number(sample, "relative")
        said = stated_value(completion, sample, self.answer_tag, gold)
        if said is None:
            return _no_number(completion, sample, self.answer_tag)
        if said == gold:
            return Score(value=1.0, details={"answer": said})
        error = (abs(said - gold) + 1e-9) / (abs(gold) + 1e-9)
        return Score(value=1.0 - min(1.0, error), details={"answer": said})

    def verify(self, sample: Sample) -> None:
        verify_number(sample, "relative")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymmetricRelative:
    """From vsGRPO's error δ = |said − gold| / min(said, gold), arXiv:2504.00883 §4.1: half and double are as wrong.

    The paper does not say how δ becomes a reward. Ours, a choice: `shape` "linear" max(0, 1 − δ), or "exp" e^{−δ};
    mean relative accuracy (`mra`) is another. Where said or gold is not positive, only equality pays.
    """

    shape: Literal["linear", "exp"] = "linear"
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.shape not in ("linear", "exp"):
            raise ConfigError(f"reward 'symmetric_relative': shape is {self.shape!r}; it must be 'linear' or 'exp'.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_number(sample, "symmetric_relative")
        said = stated_value(completion, sample, self.answer_tag, gold)
        if said is None:
            return _no_number(completion, sample, self.answer_tag)
        if min(said, gold) <= 0 or not math.isfinite(said):
            return Score(value=float(said == gold), details={"answer": said})
        error = abs(said - gold) / min(said, gold)
        value = max(0.0, 1.0 - error) if self.shape == "linear" else math.exp(-error)
        return Score(value=value, details={"answer": said, "error": error})

    def verify(self, sample: Sample) -> None:
        verify_number(sample, "symmetric_relative")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanRelativeAccuracy:
    """The share of θ in {0.50, 0.55, …, 0.95} for which |said − gold| / |gold| ≤ 1 − θ. VSI-Bench, arXiv:2412.14171.

    `strict` uses < as the paper writes; the benchmark's code, and the default here, uses ≤. Gold 0 gives 1 for 0, else
    0 (the code divides by zero); a negative gold is compared by its size.
    """

    strict: bool = False
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_number(sample, "mra")
        said = stated_value(completion, sample, self.answer_tag, gold)
        if said is None:
            return _no_number(completion, sample, self.answer_tag)
        return Score(value=mean_relative_accuracy(said, gold, strict=self.strict), details={"answer": said})

    def verify(self, sample: Sample) -> None:
        verify_number(sample, "mra")


def mean_relative_accuracy(said: float, gold: float, *, strict: bool = False) -> float:
    """MRA of one number. Equality at a threshold is decided with a tolerance of 1e-12, so that floats do not matter."""
    if gold == 0.0:
        return float(said == 0.0)
    error = abs(said - gold) / abs(gold)
    slack = -_SLACK if strict else _SLACK
    return sum(error <= 1.0 - threshold + slack for threshold in THRESHOLDS) / len(THRESHOLDS)


def _no_number(completion: Completion, sample: Sample, tag: str) -> Score:
    unit = f" in {sample.answer.unit}, or in a unit that can be converted" if sample.answer.unit else ""
    return unanswered(completion, f"one number{unit}", tag)


def verify_number(sample: Sample, reward: str) -> None:
    value = sample.answer.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RewardError(
            f"sample {sample.id!r}: reward {reward!r} needs a finite number, and the answer is {value!r}."
        )
