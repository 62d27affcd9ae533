"""What holds for every sampler, and each one's rule by numbers worked by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mmrl.curriculum.bandit import CategoryBandit, probabilities
from mmrl.curriculum.catalog import SAMPLERS
from mmrl.curriculum.easy_to_hard import EasyToHard
from mmrl.curriculum.knapsack import Knapsack, allocate, value
from mmrl.curriculum.outcomes import distinct_trigrams, draw, mean_absolute_advantage
from mmrl.curriculum.replay import HardReplay
from mmrl.curriculum.sampler import PromptSampler
from mmrl.curriculum.solvable import SolvableOnly
from mmrl.curriculum.uncertainty import Uncertain
from mmrl.curriculum.variance_aware import VarianceAware
from mmrl.errors import ConfigError, DataError
from mmrl.types import RolloutGroup, Sample, ScoredGroup
from tests import toy


def sample(i: int, **metadata: Any) -> Sample:
    return replace(toy.choice_sample(f"s{i}"), metadata=metadata)


SAMPLES = [sample(i, pass_rate=0.1 * i, category="ab"[i % 2]) for i in range(10)]


def outcome(of: Sample, correct: int, rollouts: int = 8) -> ScoredGroup:
    group = toy.scored_lengths(of.id, [1.0] * correct + [0.0] * (rollouts - correct), [3] * rollouts)
    return replace(group, group=replace(group.group, prompt=replace(group.group.prompt, sample=of)))


def ids(samples: Sequence[Sample]) -> list[str]:
    return [s.id for s in samples]


every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def run(sampler: PromptSampler, steps: int) -> list[list[str]]:
    """A few steps with made-up outcomes."""
    asked = []
    for step in range(steps):
        samples = sampler.next(4)
        asked.append(ids(samples))
        sampler.observe([outcome(s, (int(s.id[1:]) + step) % 9) for s in samples])
    return asked


@every_sampler
def test_a_restored_sampler_continues_as_if_nothing_had_happened(name: str) -> None:
    straight: PromptSampler = SAMPLERS[name](SAMPLES, seed=5)
    whole = run(straight, 9)
    first: PromptSampler = SAMPLERS[name](SAMPLES, seed=5)
    run(first, 4)
    resumed: PromptSampler = SAMPLERS[name](SAMPLES, seed=5)
    resumed.load_state(json.loads(json.dumps(first.state())))  # JSON values only
    again = []
    for step in range(4, 9):
        samples = resumed.next(4)
        again.append(ids(samples))
        resumed.observe([outcome(s, (int(s.id[1:]) + step) % 9) for s in samples])
    assert again == whole[4:]


@every_sampler
def test_the_seed_decides(name: str) -> None:
    one, two, other = (run(SAMPLERS[name](SAMPLES, seed=seed), 4) for seed in (1, 1, 2))
    assert one == two
    assert one != other


@every_sampler
def test_a_call_within_the_first_epoch_asks_each_sample_at_most_once(name: str) -> None:
    asked = ids(SAMPLERS[name](SAMPLES, seed=0).next(2))
    assert len(asked) == len(set(asked)) == 2


@every_sampler
def test_no_samples_are_an_error(name: str) -> None:
    with pytest.raises(DataError, match="no samples"):
        SAMPLERS[name]([], seed=0)


@pytest.mark.parametrize("name", ["solvable", "variance_aware", "easy_to_hard", "uncertain", "knapsack"])
@pytest.mark.parametrize("rate", ["high", 50, -0.1, True, {"mean": 0.5}])
def test_a_pass_rate_that_is_no_share_is_an_error_before_anything_runs(name: str, rate: object) -> None:
    with pytest.raises(DataError, match=r"'s1': metadata\.pass_rate is"):
        SAMPLERS[name]([sample(0, pass_rate=0.5), sample(1, pass_rate=rate)], seed=0)


def test_instance_filtering_drops_what_was_never_right_and_keeps_what_always_was() -> None:
    """Correct 0, 1, 8, 0 of 8: the second and third stay."""
    samples = [sample(i) for i in range(4)]
    sampler = SolvableOnly(samples, seed=0)
    first = sampler.next(4)
    assert sorted(ids(first)) == ["s0", "s1", "s2", "s3"]
    sampler.observe([outcome(s, [0, 1, 8, 0][int(s.id[1:])]) for s in first])
    assert sorted(ids(sampler.next(2))) == ["s1", "s2"]
    sampler.observe([outcome(samples[1], 0)])  # later failures do not count
    assert "s1" in ids(sampler.next(2))


def test_instance_filtering_knows_measured_samples_at_once_and_ends_when_nothing_is_left() -> None:
    sampler = SolvableOnly([sample(0, pass_rate=0.0), sample(1, pass_rate=0.5)], seed=0)
    assert set(ids(sampler.next(3))) == {"s1"}
    assert SolvableOnly([sample(0, pass_rate=0.0)], seed=0).next(3) == []


def test_variance_aware_weights_are_the_normalised_outcome_variances() -> None:
    """k of 8 correct: 0 → 0, 2 → 0.1875, 4 → 0.25, 8 → 0; over 0.25."""
    samples = [sample(i) for i in range(4)]
    sampler = VarianceAware(samples, seed=0)
    assert sampler.weights() == [1.0] * 4
    sampler.observe([outcome(s, k) for s, k in zip(samples, (0, 2, 4, 8), strict=True)])
    assert sampler.weights() == pytest.approx([0, 0.75, 1, 0])
    for _ in range(20):
        drawn = ids(sampler.next(4))
        assert set(drawn[:2]) == {"s1", "s2"}
        assert len(set(drawn)) == 4


def test_variance_aware_counts_variety_where_asked() -> None:
    samples = [sample(0), sample(1)]
    sampler = VarianceAware(samples, seed=0, outcome=0.8, diversity=0.2)
    rollouts = tuple(toy.rollout([i, i + 1, i + 2], index=i) for i in range(8))
    varied = toy.scored(RolloutGroup(prompt=outcome(samples[0], 4).group.prompt, rollouts=rollouts), [1.0] * 8)
    same = toy.scored(
        RolloutGroup(prompt=outcome(samples[1], 4).group.prompt, rollouts=(toy.rollout([1, 2, 3]),) * 8), [1.0] * 8
    )
    assert [distinct_trigrams(varied), distinct_trigrams(same)] == [1.0, 0.125]
    sampler.observe([varied, same])
    assert sampler.weights() == [1.0, 0.0]


def test_bandit_follows_the_mean_absolute_advantage() -> None:
    """Updates (0, 0.2), (1, 0.8), (2, 0.5), (1, 0.7) at rate 0.5: Q = 0.1, 0.55, 0.25."""
    sampler = CategoryBandit([sample(i, category=str(i)) for i in range(3)], seed=0, rate=0.5)
    for category, reward in (("0", 0.2), ("1", 0.8), ("2", 0.5), ("1", 0.7)):
        sampler.update(category, reward)
    assert list(sampler.values.values()) == pytest.approx([0.1, 0.55, 0.25])
    odds = probabilities(sampler.values, 1.0)
    assert list(odds.values()) == pytest.approx([0.268086, 0.420443, 0.311471], abs=1e-6)


def test_bandit_asks_more_of_the_category_that_teaches() -> None:
    samples = [sample(i, category="ab"[i % 2]) for i in range(200)]
    sampler = CategoryBandit(samples, seed=0, temperature=0.2)
    for _ in range(8):
        chosen = sampler.next(8)
        sampler.observe([outcome(s, 4 if s.metadata["category"] == "a" else 0) for s in chosen])
    counts = Counter(s.metadata["category"] for s in sampler.next(40))
    assert counts["a"] > 30
    assert mean_absolute_advantage(outcome(samples[0], 4)) == pytest.approx(0.935414, abs=1e-3)


def test_bandit_without_a_category_takes_the_task() -> None:
    assert list(CategoryBandit([sample(0)], seed=0).values) == ["choice"]


def test_hard_samples_come_back_first_and_only_while_they_are_hard() -> None:
    samples = [sample(i) for i in range(20)]
    sampler = HardReplay(samples, seed=0, share=0.5, hard=0.5)
    sampler.observe([outcome(samples[3], 2), outcome(samples[4], 8), outcome(samples[5], 0), outcome(samples[6], 4)])
    assert ids(sampler.next(4))[:2] == ["s3", "s6"]
    sampler.observe([outcome(samples[3], 1), outcome(samples[6], 8)])
    assert ids(sampler.next(2))[0] == "s3"
    stubborn = HardReplay(samples, seed=0, share=0.5, never_solved=True)
    stubborn.observe([outcome(samples[5], 0)])
    assert ids(stubborn.next(2))[0] == "s5"


def test_hard_replay_forgets_beyond_its_capacity() -> None:
    samples = [sample(i) for i in range(20)]
    sampler = HardReplay(samples, seed=0, share=1.0, capacity=2)
    sampler.observe([outcome(s, 2) for s in samples[:4]])
    assert ids(sampler.next(2)) == ["s2", "s3"]


def test_easy_samples_come_first_and_the_part_grows_to_all() -> None:
    sampler = EasyToHard(SAMPLES, seed=0, first=0.2, draws=8)
    assert sorted(ids(sampler.next(2))) == ["s8", "s9"]
    assert sampler.part() == 4  # 0.2 + 0.8 · 2/8 of ten
    assert sorted(ids(sampler.next(2))) == ["s6", "s7"]  # behind, so first
    sampler.next(4)
    assert sampler.part() == 10
    assert sorted(ids(sampler.next(2)))[0] < "s4"


def test_easy_to_hard_needs_measured_pass_rates() -> None:
    with pytest.raises(DataError, match=r"'s1' has no metadata.pass_rate \(1 of 2 lack it\)"):
        EasyToHard([sample(0, pass_rate=1.0), sample(1)], seed=0)


def test_uncertain_samples_weigh_most_and_none_weighs_nothing() -> None:
    """v 0.4: √0.24 + 0.05 = 0.539898; v 0: the floor."""
    sampler = Uncertain([sample(0, pass_rate=0.4), sample(1, pass_rate=0.0)], seed=0)
    assert [sampler.weight("s0"), sampler.weight("s1")] == pytest.approx([0.539898, 0.05], abs=1e-6)
    sampler.observe([outcome(sample(1), 8)])  # 0, 8 → 1, 7.68
    v = 1 / 8.68
    assert sampler.weight("s1") == pytest.approx((v * (1 - v)) ** 0.5 + 0.05)


@pytest.mark.parametrize(
    ("rate", "values"),
    [
        (0.1, [0.014580, 0.027848, 0.046132, 0.065991, 0.078219]),
        (0.5, [0.0625, 0.109375, 0.124023, 0.124996, 0.125]),
    ],
)
def test_knapsack_value_of_a_sample(rate: float, values: list[float]) -> None:
    assert [value(rate, n) for n in (2, 4, 8, 16, 32)] == pytest.approx(values, abs=1e-6)


def test_knapsack_gives_hard_samples_more_rollouts() -> None:
    assert allocate([0.1, 0.5, 0.9], 24) == [15, 7, 2]
    with pytest.raises(ConfigError, match="5 rollouts cannot be shared by 3 samples of 2 to 128"):
        allocate([0.1, 0.5, 0.9], 5)
    assert allocate([0.1, 0.9], 10, most=6) == [6, 4]


def test_knapsack_is_the_best_of_all_allocations() -> None:
    rates, budget = [0.2, 0.6, 0.85], 14
    best = max(
        ((a, b, budget - a - b) for a in range(2, 11) for b in range(2, 11) if budget - a - b >= 2),
        key=lambda sizes: sum(value(p, n) for p, n in zip(rates, sizes, strict=True)),
    )
    assert tuple(allocate(rates, budget)) == best


def test_knapsack_shares_evenly_until_every_sample_is_known() -> None:
    samples = [sample(0), sample(1), sample(2)]
    sampler = Knapsack(samples, seed=0)
    assert sampler.group_sizes(samples, 25) == [9, 8, 8]
    sampler.observe([outcome(samples[0], 1, 10), outcome(samples[1], 5, 10), outcome(samples[2], 9, 10)])
    assert sampler.group_sizes(samples, 24) == [15, 7, 2]
    sampler.observe([outcome(samples[0], 0), outcome(samples[2], 8)])
    hard, middle, solved = sampler.group_sizes(samples, 24)
    assert hard > middle > solved == 2


def test_draw_fills_up_with_weightless_ones() -> None:
    assert sorted(draw([0, 1, 0], 3, seed=[0])) == [0, 1, 2]
    assert draw([0, 1, 0], 1, seed=[0]) == [1]
    counts = Counter(draw([1, 3], 1, seed=[i])[0] for i in range(400))
    assert 260 < counts[1] < 340
