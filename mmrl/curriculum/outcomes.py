"""What samplers learn from a scored group, and drawing by weight."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from mmrl.errors import DataError
from mmrl.types import Sample, ScoredGroup

PASS_RATE = "pass_rate"  # metadata key: the share of correct rollouts measured before training, in [0, 1]


def sample_id(group: ScoredGroup) -> str:
    """Whose rollouts these are."""
    return group.group.prompt.sample.id


def pass_rate(group: ScoredGroup) -> float:
    """Mean accuracy of the group's rollouts."""
    return sum(group.accuracy) / len(group.accuracy)


def mean_absolute_advantage(group: ScoredGroup) -> float:
    """Mean |A| of the group, A the group-normalised total (std with G − 1): how much there is to learn from it."""
    if len(group.totals) < 2:
        return 0.0
    mean, spread = statistics.fmean(group.totals), statistics.stdev(group.totals)
    return statistics.fmean(abs(total - mean) for total in group.totals) / (spread + 1e-4)


def distinct_trigrams(group: ScoredGroup) -> float:
    """Distinct over all token trigrams of the group's rollouts, in (0, 1]; 0 where there are none."""
    rows = [rollout.token_ids for rollout in group.group.rollouts]
    trigrams = [row[i : i + 3] for row in rows for i in range(len(row) - 2)]
    return len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def known_pass_rate(sample: Sample) -> float | None:
    """The pass rate the manifest gives, or None. DataError where it is no share."""
    rate = sample.metadata.get(PASS_RATE)
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise DataError(
            f"sample {sample.id!r}: metadata.{PASS_RATE} is {rate!r}; samplers read it as the share of correct "
            "rollouts, from 0 to 1. Correct it, remove it, or measure it with `mmrl data difficulty`."
        )
    return float(rate)


def draw(weights: Sequence[float], count: int, *, seed: Sequence[int]) -> list[int]:
    """`count` different indices by weight; where fewer have any weight, the rest evenly among the others."""
    random = np.random.default_rng(list(seed))
    values = np.asarray(weights, dtype=float)
    count = min(count, len(values))
    heavy = np.flatnonzero(values > 0)
    share = min(count, len(heavy))
    chosen: list[int] = []
    if share:
        chosen = random.choice(heavy, size=share, replace=False, p=values[heavy] / values[heavy].sum()).tolist()
    if share < count:
        light = np.setdiff1d(np.arange(len(values)), heavy)
        chosen += random.choice(light, size=count - share, replace=False).tolist()
    return chosen


def some_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, of which there must be one."""
    if not samples:
        raise DataError("the training manifest holds no samples; there is nothing to train on.")
    return list(samples)
