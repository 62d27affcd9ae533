"""Statistics of evaluation: pass@k, majority@k, intervals over samples, and tests between two models.

Everything random takes a seed and gives the same numbers for it on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20  # values drawn in one go
_EXACT_FLIPS = 12  # up to 2^12 sign patterns are all tried; above, patterns are drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and where it would lie if other samples of the same kind had been drawn."""

    value: float
    low: float  # lower end of the percentile bootstrap interval
    high: float


def pass_at_k(*, samples: int, correct: int, k: int) -> float:
    """1 − C(n − c, k) / C(n, k): the chance that k of n completions, drawn without replacement, hold a correct one.

    Unbiased for the chance that k fresh completions do (Chen et al. 2021, arXiv:2107.03374, equation 1). 1 ≤ k ≤ n.
    """
    _check_k(samples, k)
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def majority_at_k(answers: Sequence[Hashable | None], accuracies: Sequence[float], *, k: int) -> float:
    """Expected accuracy of the most frequent answer among k of the n completions, drawn without replacement.

    Unbiased, and exact: all C(n, k) subsets count, none is sampled. Answers that are equally frequent share the vote;
    a completion without an answer (None) has none; where nobody votes the accuracy is 0. 1 ≤ k ≤ n.
    """
    _check_k(len(answers), k)
    earned: dict[Hashable, list[float]] = defaultdict(list)
    for answer, accuracy in zip(answers, accuracies, strict=True):
        if answer is not None:
            earned[answer].append(accuracy)
    sizes = {answer: len(values) for answer, values in earned.items()}
    abstaining = len(answers) - sum(sizes.values())
    total = 0.0
    for answer, values in earned.items():
        others = [size for other, size in sizes.items() if other != answer]
        wins = sum(
            comb(len(values), votes) * _shared_wins(others, abstaining, k - votes, votes)
            for votes in range(1, min(len(values), k) + 1)
        )
        total += wins * sum(values) / len(values)
    return total / comb(len(answers), k)


def _shared_wins(others: Sequence[int], abstaining: int, places: int, votes: int) -> float:
    """Ways to fill `places` from the other answers, none above `votes`, each way counted 1 / (1 + how many tie)."""
    ways = [[0] * (places + 1) for _ in range(len(others) + 1)]  # [tied others][places taken]
    ways[0][0] = 1
    for size in others:
        longer = [[0] * (places + 1) for _ in range(len(others) + 1)]
        for tied, row in enumerate(ways):
            for taken, count in enumerate(row):
                if count:
                    for more in range(min(size, votes, places - taken) + 1):
                        longer[tied + (more == votes)][taken + more] += count * comb(size, more)
        ways = longer
    return sum(
        count * comb(abstaining, places - taken) / (1 + tied)
        for tied, row in enumerate(ways)
        for taken, count in enumerate(row)
    )


def bootstrap(values: Sequence[float], *, seed: int, resamples: int = 2000, confidence: float = 0.95) -> Interval:
    """The mean of per-sample values with its percentile bootstrap interval (Efron 1979). At least one value."""
    if not values:
        raise ValueError("bootstrap: there is no value to resample")
    means = _resampled_means(np.asarray(values, dtype=np.float64), seed, resamples)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value=float(np.mean(values)), low=float(low), high=float(high))


def bootstrap_of_means(
    terms: Sequence[Sequence[Sequence[float]]], *, seed: int, resamples: int = 2000, confidence: float = 0.95
) -> Interval:
    """A mean of means of means, as benchmarks report them: each term the mean of its parts, each part of its values.

    Values are resampled within their part, so that every part keeps its size. `terms[t][p]` are values; none is empty.
    Example: [[[1, 0]], [[1], [0, 0]]] → ((1 + 0) / 2 + (1 + 0) / 2) / 2 = 0.5.
    """
    if not terms or any(not parts or any(len(part) == 0 for part in parts) for parts in terms):
        raise ValueError("bootstrap: there is no value to resample")
    value, means = 0.0, np.zeros(resamples)
    place = 0
    for parts in terms:
        for part in parts:
            values = np.asarray(part, dtype=np.float64)
            weight = 1.0 / (len(terms) * len(parts))
            value += weight * float(values.mean())
            means += weight * _resampled_means(values, seed + 7919 * place, resamples)
            place += 1
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(value=value, low=float(low), high=float(high))


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], *, seed: int, resamples: int = 2000, confidence: float = 0.95
) -> Interval:
    """Mean of after − before over samples that both models answered, resampling samples (not models)."""
    return bootstrap(_differences(before, after).tolist(), seed=seed, resamples=resamples, confidence=confidence)


def paired_permutation_test(
    before: Sequence[float], after: Sequence[float], *, seed: int, resamples: int = 10_000
) -> float:
    """Two-sided p-value of "the two models are alike": how often random signs give a difference at least as large.

    With at most 12 samples on which they differ all signs are tried; above, `resamples` are drawn and the observed one
    is counted among them, so the value is never 0.
    """
    differences = _differences(before, after)
    differences = differences[differences != 0]
    if differences.size == 0:
        return 1.0
    observed = abs(differences.sum()) - 1e-12
    if differences.size <= _EXACT_FLIPS:
        patterns = np.arange(2**differences.size)[:, None] >> np.arange(differences.size) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ differences) >= observed))
    generator = np.random.Generator(np.random.PCG64(seed))
    extreme = 0
    for _ in range(resamples):
        signs = 1 - 2 * generator.integers(0, 2, size=differences.size)
        extreme += abs(float(signs @ differences)) >= observed
    return (1 + extreme) / (1 + resamples)


def mcnemar(*, won: int, lost: int) -> float:
    """Two-sided exact McNemar test of "as many flips one way as the other", from the samples that flipped.

    min(1, 2 · P(X ≤ min(won, lost))), X binomial with won + lost trials of probability ½ (McNemar 1947; exact form:
    Fagerland, Lydersen & Laake 2013). Without flips 1.
    """
    flips, fewer = won + lost, min(won, lost)
    if flips == 0:
        return 1.0
    return min(1.0, float(Fraction(2 * sum(comb(flips, i) for i in range(fewer + 1)), 2**flips)))


def _differences(before: Sequence[float], after: Sequence[float]) -> NDArray[np.float64]:
    if len(before) != len(after):
        raise ValueError(
            f"a paired comparison needs one value per sample from both: got {len(before)} and {len(after)}"
        )
    return np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)


def _resampled_means(values: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty(resamples)
    rows = max(1, _AT_ONCE // values.size)
    for first in range(0, resamples, rows):
        count = min(rows, resamples - first)
        means[first : first + count] = values[generator.integers(0, values.size, size=(count, values.size))].mean(1)
    return means


def _check_k(samples: int, k: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"k must be between 1 and the number of completions ({samples}), got {k}")
