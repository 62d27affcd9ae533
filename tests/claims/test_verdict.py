"""The rule, held to numbers worked out by hand (t quantiles from printed tables)."""

from __future__ import annotations

import math

import pytest

from mmrl.claims.verdict import Rule, Verdict, judge, mean_interval, overall

RULE = Rule(least_seeds=3)
ZEROS = [0.0] * 3


def test_the_t_interval_by_hand() -> None:
    # 1, 2, 3: mean 2, s = 1, s/√3 = 0.577350; t(0.975, 2 degrees) = 4.302653 → half 2.484138
    interval = mean_interval([1.0, 2.0, 3.0], Rule())
    assert interval is not None
    assert interval.value == pytest.approx(2.0)
    assert (interval.low, interval.high) == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    # at 90 %: t(0.95, 2) = 2.919986 → half 1.685855
    narrower = mean_interval([1.0, 2.0, 3.0], Rule(confidence=0.9))
    assert narrower is not None
    assert (narrower.low, narrower.high) == pytest.approx((0.314145, 3.685855), abs=1e-6)


def test_one_number_has_no_interval_and_equal_ones_have_a_point() -> None:
    assert mean_interval([], Rule()) is None
    assert mean_interval([3.0], Rule()) is None
    point = mean_interval([0.25, 0.25], Rule())
    assert point is not None
    assert (point.low, point.value, point.high) == (0.25, 0.25, 0.25)


def test_the_bootstrap_stays_within_the_values() -> None:
    interval = mean_interval([0.0, 0.0, 1.0], Rule(interval="bootstrap"))
    assert interval is not None
    assert interval.value == pytest.approx(1 / 3)
    # of 27 resamples 8 hold no 1 (mean 0) and 1 holds only 1s: at 95 % the ends are 0 and 1
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("differences", "least", "verdict", "said"),
    [
        # mean 0.10, s 0.01, half 4.302653 · 0.01/√3 = 0.024841: [0.0752, 0.1248]
        ([0.09, 0.10, 0.11], 0.0, Verdict.SUPPORTED, "excludes 0"),
        ([0.09, 0.10, 0.11], 0.10, Verdict.SUPPORTED, "at least the least effect"),
        ([0.09, 0.10, 0.11], 0.11, Verdict.UNDECIDED, "below the least effect"),
        ([0.09, 0.10, 0.11], 0.13, Verdict.NOT_SUPPORTED, "excludes the least effect"),
        ([-0.09, -0.10, -0.11], 0.0, Verdict.NOT_SUPPORTED, "other side"),
        # opposite signs: mean 0.0333, s 0.1528, half 0.3795: [−0.346, 0.413]
        ([-0.1, 0.0, 0.2], 0.0, Verdict.UNDECIDED, "holds both"),
        ([-0.1, 0.0, 0.2], 0.5, Verdict.NOT_SUPPORTED, "excludes the least effect"),
        # no spread
        ([0.1, 0.1, 0.1], 0.05, Verdict.SUPPORTED, "excludes 0"),
        ([0.0, 0.0, 0.0], 0.0, Verdict.NOT_SUPPORTED, "0 or on the other side"),
    ],
)
def test_higher_and_its_mirror(differences: list[float], least: float, verdict: Verdict, said: str) -> None:
    higher = judge(differences, ZEROS, expect="higher", least=least, rule=RULE)
    assert (higher.verdict, said in higher.reason) == (verdict, True)
    lower = judge(ZEROS, differences, expect="lower", least=least, rule=RULE)
    assert (lower.verdict, lower.reason) == (verdict, higher.reason)
    assert lower.differences == tuple(-d for d in differences)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-0.01, 0.0, 0.01], Verdict.SUPPORTED),  # [−0.0248, 0.0248] against a margin of 0.03
        ([-0.02, -0.01, 0.0], Verdict.UNDECIDED),  # [−0.0348, 0.0148]
        ([-0.07, -0.06, -0.05], Verdict.NOT_SUPPORTED),  # [−0.0848, −0.0352]
        ([0.5, 0.5, 0.5], Verdict.SUPPORTED),
        ([-0.03, -0.03, -0.03], Verdict.SUPPORTED),  # the margin itself is no loss above it
    ],
)
def test_no_lower_and_its_mirror(differences: list[float], verdict: Verdict) -> None:
    assert judge(differences, ZEROS, expect="no_lower", margin=0.03, rule=RULE).verdict is verdict
    assert judge(ZEROS, differences, expect="no_higher", margin=0.03, rule=RULE).verdict is verdict


def test_pairs_are_compared_seed_by_seed() -> None:
    """Seeds that differ widely, arms that differ little: only the pairs show it."""
    against = [0.2, 0.5, 0.8]
    found = judge([0.25, 0.55, 0.86], against, expect="higher", rule=RULE)
    assert found.verdict is Verdict.SUPPORTED
    assert found.differences == pytest.approx((0.05, 0.05, 0.06))
    unpaired = judge([0.86, 0.25, 0.55], against, expect="higher", rule=RULE)
    assert unpaired.verdict is Verdict.UNDECIDED


def test_too_few_seeds_decide_nothing() -> None:
    one = judge([1.0], [0.0], expect="higher", rule=Rule(least_seeds=2))
    assert (one.verdict, one.interval, one.differences) == (Verdict.UNDECIDED, None, (1.0,))
    four = judge([1.0] * 4, [0.0] * 4, expect="higher", rule=Rule())
    assert four.verdict is Verdict.UNDECIDED
    assert four.reason == "4 seeds, and the rule asks for 5"
    assert judge([1.0] * 5, [0.0] * 5, expect="higher", rule=Rule()).verdict is Verdict.SUPPORTED


def test_a_missing_number_decides_nothing() -> None:
    found = judge([1.0, None, 1.0, 1.0], [0.0] * 4, expect="higher", rule=RULE)
    assert found.verdict is Verdict.UNDECIDED
    assert found.reason == "1 of 4 seeds lack a number"
    assert found.interval is not None
    assert math.isclose(found.interval.value, 1.0)
    with pytest.raises(ValueError, match="got 1 and 2"):
        judge([1.0], [0.0, 0.0], expect="higher", rule=RULE)


def test_a_claim_needs_all_its_statements() -> None:
    yes, no, unsure = Verdict.SUPPORTED, Verdict.NOT_SUPPORTED, Verdict.UNDECIDED
    assert overall([yes, yes]) is yes
    assert overall([yes, unsure]) is unsure
    assert overall([unsure, no, yes]) is no
    with pytest.raises(ValueError, match="at least one"):
        overall([])
