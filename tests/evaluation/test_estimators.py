"""The statistics of evaluation against numbers worked by hand, or by listing every subset."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.evaluation.estimators import (
    bootstrap,
    majority_at_k,
    paired_bootstrap,
    paired_permutation_test,
    pass_at_k,
)


@pytest.mark.parametrize(
    ("samples", "correct", "k", "expected"),
    [
        (4, 1, 2, 0.5),  # 3 of the 6 pairs hold the correct one
        (4, 0, 2, 0.0),
        (4, 4, 1, 1.0),
        (4, 1, 4, 1.0),
        (5, 2, 3, 0.9),  # 1 − C(3, 3) / C(5, 3) = 1 − 1 / 10
        (8, 3, 1, 0.375),
        (1000, 1, 500, 0.5),
    ],
)
def test_pass_at_k_by_hand(samples: int, correct: int, k: int, expected: float) -> None:
    assert pass_at_k(samples=samples, correct=correct, k=k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [0, 5])
def test_k_beyond_the_completions_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the number of completions"):
        pass_at_k(samples=4, correct=1, k=k)
    with pytest.raises(ValueError, match="between 1"):
        majority_at_k(["a"] * 4, [1.0] * 4, k=k)


def test_majority_at_k_by_hand() -> None:
    # Two right (B), one wrong (A). Pairs: BB wins; BA and BA tie, half each → (1 + ½ + ½) / 3.
    assert majority_at_k(["B", "B", "A"], [1, 1, 0], k=2) == pytest.approx(2 / 3)
    assert majority_at_k(["B", "B", "A"], [1, 1, 0], k=3) == 1.0
    assert majority_at_k(["B", "A", "A"], [1, 0, 0], k=3) == 0.0
    assert majority_at_k(["B", "A", "A"], [1, 0, 0], k=1) == pytest.approx(1 / 3)
    # One who says nothing has no vote: the single B decides in the two pairs and the triple that hold it.
    assert majority_at_k(["B", None, None], [1, 0, 0], k=2) == pytest.approx(2 / 3)
    assert majority_at_k(["B", None, None], [1, 0, 0], k=3) == 1.0
    assert majority_at_k([None, None], [0, 0], k=2) == 0.0


def by_listing_subsets(answers: list[str | None], accuracies: list[float], k: int) -> float:
    earned = []
    for chosen in combinations(range(len(answers)), k):
        votes = Counter(answers[i] for i in chosen if answers[i] is not None)
        top = [answer for answer, count in votes.items() if count == max(votes.values())]
        means = [np.mean([a for b, a in zip(answers, accuracies, strict=True) if b == answer]) for answer in top]
        earned.append(float(np.mean(means)) if means else 0.0)
    return float(np.mean(earned))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["A", "B", "C", "D", None]), min_size=1, max_size=8), st.data())
def test_majority_at_k_is_the_mean_over_all_subsets(answers: list[str | None], data: st.DataObject) -> None:
    accuracies = [data.draw(st.sampled_from([0.0, 0.4, 1.0])) for _ in answers]
    k = data.draw(st.integers(1, len(answers)))
    assert majority_at_k(answers, accuracies, k=k) == pytest.approx(by_listing_subsets(answers, accuracies, k))


def test_bootstrap_gives_the_same_interval_for_the_same_seed_only() -> None:
    values = [float(i % 3 == 0) for i in range(50)]
    first = bootstrap(values, seed=1)
    assert first == bootstrap(values, seed=1)
    assert first != bootstrap(values, seed=2)
    assert first.value == pytest.approx(17 / 50)
    assert first.low < first.value < first.high


def test_bootstrap_of_equal_values_is_a_point_and_of_none_an_error() -> None:
    interval = bootstrap([0.5] * 7, seed=0)
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no value"):
        bootstrap([], seed=0)


def test_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    """A proportion of 0.5 over 400: ±1.96 · √(0.25 / 400) = ±0.049."""
    interval = bootstrap([0.0, 1.0] * 200, seed=0, resamples=4000)
    assert interval.low == pytest.approx(0.451, abs=0.006)
    assert interval.high == pytest.approx(0.549, abs=0.006)


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap(generator.binomial(1, 0.7, size=80).tolist(), seed=trial, resamples=300)
        hits += interval.low <= 0.7 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_paired_bootstrap_resamples_samples_not_models() -> None:
    """The difference is the same on every sample, so however different the samples, there is no doubt."""
    before = [0.0, 0.2, 0.4, 0.5]
    interval = paired_bootstrap(before, [value + 0.5 for value in before], seed=0)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="4 and 1"):
        paired_bootstrap(before, [1.0], seed=0)


def test_permutation_test_by_hand() -> None:
    # Three wins, no loss: of the 8 sign patterns, all + and all − are as extreme → 2 / 8.
    assert paired_permutation_test([0, 0, 0, 1], [1, 1, 1, 1], seed=0) == 0.25
    # Two wins and a loss: the sum is 1, and every pattern has |sum| ≥ 1.
    assert paired_permutation_test([0, 0, 1], [1, 1, 0], seed=0) == 1.0
    assert paired_permutation_test([0, 1], [0, 1], seed=0) == 1.0
    # Unequal differences 0.5 and 1: |±0.5 ± 1| ≥ 1.5 for 2 of 4.
    assert paired_permutation_test([0, 0], [0.5, 1], seed=0) == 0.5


def test_permutation_test_of_many_flips_is_drawn_and_never_zero() -> None:
    # 20 wins, no loss: exactly 2 / 2^20; drawn: 1 / 10001.
    assert paired_permutation_test([0] * 20, [1] * 20, seed=0) == 1 / 10_001
    mixed = paired_permutation_test([0] * 12 + [1] * 8, [1] * 12 + [0] * 8, seed=3)
    assert mixed == paired_permutation_test([0] * 12 + [1] * 8, [1] * 12 + [0] * 8, seed=3)
    assert mixed == pytest.approx(0.503, abs=0.03)  # P(|X − 10| ≥ 2), X ~ Bin(20, ½) = 0.5034
