"""The rule: from numbers per seed to supported, not supported, or undecided. Pure functions of numbers.

    d_s      = measure of the arm − measure of the other arm, both with seed s (same cold start, data and order)
    interval = of the mean of d over seeds: Student's t (n − 1), or the percentile bootstrap

    expect      supported                                not supported
    higher      low > 0 and mean ≥ least                 high < least, or high ≤ 0
    lower       high < 0 and mean ≤ −least               low > −least, or low ≥ 0
    no_lower    low ≥ −margin                            high < −margin
    no_higher   high ≤ margin                            low > margin

Everything else is undecided, and so is any statement with fewer seeds than the rule asks for, or with a number missing.
A claim is supported when all its deciding statements are, not supported when one of them is not, else undecided.
Nothing is corrected for the number of statements: a claim asks for all of them, which only makes "supported" harder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from mmrl.evaluation.estimators import Interval, bootstrap

Expectation = Literal["higher", "lower", "no_lower", "no_higher"]

HAIR = 1e-9  # a mean of 0.09, 0.10 and 0.11 is at least 0.10, whatever it is in binary


class Verdict(StrEnum):
    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How sure a statement must be."""

    interval: Literal["t", "bootstrap"] = "t"
    confidence: float = 0.95
    least_seeds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the numbers say about one statement."""

    differences: tuple[float, ...]  # arm − against, per seed that has both numbers
    interval: Interval | None  # of their mean; None with fewer than two
    verdict: Verdict
    reason: str


def mean_interval(values: Sequence[float], rule: Rule) -> Interval | None:
    """The mean with its interval over seeds; None with fewer than two values, of which no spread can be told.

    t: mean ± t_{(1 + confidence)/2, n − 1} · s/√n with the sample standard deviation s (n − 1). Equal values give an
    interval of width 0.
    """
    n = len(values)
    if n < 2:
        return None
    if rule.interval == "bootstrap":
        return bootstrap(values, seed=0, resamples=10_000, confidence=rule.confidence)
    from scipy.stats import t  # type: ignore[import-untyped]

    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(t.ppf((1 + rule.confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Interval(value=mean, low=mean - half, high=mean + half)


def judge(
    arm: Sequence[float | None],
    against: Sequence[float | None],
    *,
    expect: Expectation,
    least: float = 0.0,
    margin: float = 0.0,
    rule: Rule,
) -> Finding:
    """One statement. The two sequences hold the arms' numbers for the same seeds in the same order; None: not measured.

    least, margin: ≥ 0, in the measure's unit.
    """
    if len(arm) != len(against):
        raise ValueError(f"paired numbers need one of each arm per seed: got {len(arm)} and {len(against)}")
    differences = tuple(a - b for a, b in zip(arm, against, strict=True) if a is not None and b is not None)
    interval = mean_interval(differences, rule)
    missing = len(arm) - len(differences)
    if missing:
        reason = f"{missing} of {len(arm)} seeds lack a number"
        return Finding(differences=differences, interval=interval, verdict=Verdict.UNDECIDED, reason=reason)
    if interval is None or len(differences) < rule.least_seeds:
        reason = f"{len(differences)} seeds, and the rule asks for {rule.least_seeds}"
        return Finding(differences=differences, interval=interval, verdict=Verdict.UNDECIDED, reason=reason)
    verdict, reason = _decided(interval, expect=expect, least=least, margin=margin)
    return Finding(differences=differences, interval=interval, verdict=verdict, reason=reason)


def overall(findings: Sequence[Verdict]) -> Verdict:
    """The claim's verdict, from those of its deciding statements (at least one)."""
    if not findings:
        raise ValueError("a claim needs at least one deciding statement")
    if Verdict.NOT_SUPPORTED in findings:
        return Verdict.NOT_SUPPORTED
    return Verdict.UNDECIDED if Verdict.UNDECIDED in findings else Verdict.SUPPORTED


def _decided(interval: Interval, *, expect: Expectation, least: float, margin: float) -> tuple[Verdict, str]:
    """Looked at so that upwards is what is expected: `lower` and `no_higher` are mirrored."""
    turned = expect in ("lower", "no_higher")
    mean, low, high = interval.value, interval.low, interval.high
    if turned:
        mean, low, high = -mean, -high, -low
    if expect in ("higher", "lower"):
        if low > 0 and mean >= least - HAIR:
            return Verdict.SUPPORTED, "the interval excludes 0 and the mean is at least the least effect"
        if high <= 0:
            return Verdict.NOT_SUPPORTED, "the whole interval is 0 or on the other side of it"
        if high < least - HAIR:
            return Verdict.NOT_SUPPORTED, "the interval excludes the least effect"
        if low > 0:
            return Verdict.UNDECIDED, "the interval excludes 0, but the mean is below the least effect"
        return Verdict.UNDECIDED, "the interval holds both 0 and the least effect"
    if low >= -margin - HAIR:
        return Verdict.SUPPORTED, "the interval excludes a loss above the margin"
    if high < -margin - HAIR:
        return Verdict.NOT_SUPPORTED, "the whole interval is a loss above the margin"
    return Verdict.UNDECIDED, "the interval holds the margin"
