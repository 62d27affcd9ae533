"""APO's parts, by numbers worked by hand: STCR, DADS, both meanings of positive, and the guards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmrl.algorithms.apo import APO
from mmrl.batch import PolicyOutputs, Streams, Totals
from mmrl.credit.advantage import GroupNormalized
from mmrl.credit.asymmetric import DifficultyAwareWeight, SuboptimalTrajectoryComplexity
from mmrl.errors import ConfigError
from mmrl.types import ScoredGroup
from tests import toy
from tests.credit.worked import credit_input


def group(totals: list[float], lengths: list[int]) -> ScoredGroup:
    return toy.scored_lengths("apo", totals, lengths)


FOUR = group([1.5, 0.5, 0.0, 1.5], [100, 300, 150, 200])


def test_stcr_presses_the_wrong_rollout_that_is_longer_than_the_correct_ones() -> None:
    """Correct ones have mean length 150; the second is 150 longer: ω = 1 − 1.00001^−150 = 0.001499."""
    table, context = credit_input(FOUR)
    advantages = GroupNormalized(eps=1e-9)(table, context)
    assert advantages.tolist() == pytest.approx([0.833333, -0.5, -1.166667, 0.833333], abs=1e-6)
    after = SuboptimalTrajectoryComplexity()(advantages, table, context)
    assert after.tolist() == pytest.approx([0.833333, -0.500749, -1.166667, 0.833333], abs=1e-6)


@pytest.mark.parametrize(
    ("excess", "factor"), [(100, 1.0009995), (500, 1.0049875), (1000, 1.0099501), (2000, 1.0198012), (4000, 1.0392104)]
)
def test_stcr_grows_with_the_excess_and_is_tiny(excess: int, factor: float) -> None:
    table, context = credit_input(group([1, 0], [10, 10 + excess]))
    after = SuboptimalTrajectoryComplexity()(torch.tensor([1.0, -1.0]), table, context)
    assert after.tolist() == pytest.approx([1.0, -factor], abs=1e-6)


def test_stcr_leaves_groups_without_a_correct_rollout_alone() -> None:
    table, context = credit_input(group([0.5, 0.0], [10, 5000]))
    assert SuboptimalTrajectoryComplexity()(torch.tensor([1.0, -1.0]), table, context).tolist() == [1.0, -1.0]


def test_stcr_as_released_enlarges_a_wrong_rollout_s_positive_advantage_and_the_guard_does_not() -> None:
    """One right of eight, one wrong but well-formatted and long: A of the latter is +0.467707."""
    table, context = credit_input(group([1.5, 0.5, 0, 0, 0, 0, 0, 0], [100, 1100, 50, 50, 50, 50, 50, 50]))
    advantages = GroupNormalized(eps=1e-9)(table, context)
    assert advantages.tolist() == pytest.approx([2.338536, 0.467707, *[-0.467707] * 6], abs=1e-6)
    released = SuboptimalTrajectoryComplexity()(advantages, table, context)
    assert float(released[1]) == pytest.approx(0.467707 * 1.0099501, abs=1e-6)
    guarded = SuboptimalTrajectoryComplexity(only_negative=True)(advantages, table, context)
    assert guarded.tolist() == advantages.tolist()


@pytest.mark.parametrize(
    ("correct", "weight", "other"),
    [
        (1, 0.288077, 0.092690),
        (2, 0.493165, 0.130196),
        (3, 0.639173, 0.182880),
        (4, 0.743119, 0.256881),
        (5, 0.817120, 0.360827),
        (6, 0.869804, 0.506835),
        (7, 0.907310, 0.711923),
        (8, 1.0, 1.0),
        (0, 1.0, 1.0),
    ],
)
def test_dads_frees_successes_on_hard_prompts(correct: int, weight: float, other: float) -> None:
    totals = [1.5] * correct + [0.0] * (8 - correct)
    table, context = credit_input(group(totals, [5] * 8))
    advantages = torch.tensor([1.0] * 4 + [-1.0] * 4)  # favoured is what A says, not what is correct
    assert DifficultyAwareWeight()(advantages, table, context).tolist() == pytest.approx(
        [weight] * 4 + [1.0] * 4, abs=1e-6
    )
    alternative = DifficultyAwareWeight(form="difficulty")(advantages, table, context)
    assert alternative.tolist() == pytest.approx([other] * 4 + [1.0] * 4, abs=1e-6)


def test_dads_guard_asks_for_correctness_too() -> None:
    table, context = credit_input(group([1.5, 0.5, 0, 0], [5] * 4))
    advantages = torch.tensor([1.0, 0.5, -1.0, -1.0])
    pass_rate_quarter = 0.493165
    released = DifficultyAwareWeight()(advantages, table, context)
    guarded = DifficultyAwareWeight(only_correct=True)(advantages, table, context)
    assert released.tolist() == pytest.approx([pass_rate_quarter, pass_rate_quarter, 1, 1], abs=1e-6)
    assert guarded.tolist() == pytest.approx([pass_rate_quarter, 1, 1, 1], abs=1e-6)


def test_difficulty_comes_from_the_accuracy_channel_not_from_the_total() -> None:
    """With an accuracy weight of 0.9 the totals' integer parts would all be 0, and every group of difficulty 1."""
    scored = toy.scored(FOUR.group, [0.9, 0.1, 0.0, 0.9], accuracy=[1, 0, 0, 1])
    table, context = credit_input(scored)
    weights = DifficultyAwareWeight()(torch.tensor([1.0, -1.0, -1.0, 1.0]), table, context)
    assert weights.tolist() == pytest.approx([0.743119, 1, 1, 0.743119], abs=1e-6)


def test_an_unknown_form_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'difficulty'"):
        DifficultyAwareWeight(form="difficult")


def test_apo_s_divergence_is_the_mean_over_rollouts_of_weighted_means_over_tokens() -> None:
    """k3 of the rollouts 0.02, 0.05, 0.01, 0.04, weights 0.743119, 1, 1, 0.743119: mean 0.026147, times 0.001."""
    lengths = [2, 4, 3, 1]
    scored = group([1.5, 0.5, 0.0, 1.5], lengths)
    target = torch.tensor([0.02, 0.05, 0.01, 0.04], dtype=torch.float64)
    d = (2 * target).sqrt()
    for _ in range(20):  # Newton: expm1(d) − d = target
        d = d - (torch.expm1(d) - d - target) / torch.expm1(d)
    policy = torch.zeros(4, 4, dtype=torch.float64) - 1
    streams = Streams(ref_logprobs=policy + d[:, None])
    batch = replace(APO, reweight=()).credit([scored], streams=streams, max_tokens=8).batch
    terms = APO.loss(PolicyOutputs(logprobs=policy), batch, Totals.of(batch))
    assert terms.divergence == pytest.approx(2.614678e-5, abs=1e-10)


def test_apo_s_surrogate_weighs_tokens_alike() -> None:
    batch = APO.credit([FOUR], streams=Streams(), max_tokens=512).batch
    policy = torch.zeros(4, 300, requires_grad=True)
    APO.loss(PolicyOutputs(logprobs=policy), batch, Totals.of(batch)).loss.backward()
    assert policy.grad is not None
    first_tokens = policy.grad[:, 0] * 750
    assert first_tokens.tolist() == pytest.approx([-0.833333, 0.500749, 1.166667, -0.833333], abs=1e-5)
