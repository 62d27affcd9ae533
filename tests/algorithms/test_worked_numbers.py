"""Numbers worked by hand (numpy, six decimals) for GRPO, Dr. GRPO and DAPO: advantages, clip, k3, three normalisers.

The two-sequence case: rewards [1, 0]; policy [−1, −0.5] and [−0.2, −0.9, −2]; old policy [−1.2, −0.4] and
[−0.2, −1.2, −1.5]; reference [−1.1, −0.5] and [−0.3, −0.9, −1.7].
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.dapo import DAPO
from mmrl.algorithms.dr_grpo import DR_GRPO
from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.batch import PolicyOutputs, Streams, Totals
from mmrl.credit.advantage import GroupCentered, GroupNormalized
from mmrl.credit.filters import MaskTruncated, MixedCorrectness
from mmrl.credit.shaping import SoftOverlong
from mmrl.objective.divergence import K3, NoDivergence
from mmrl.objective.surrogate import Clipped
from mmrl.tensors import pad_rows
from mmrl.types import RolloutGroup, ScoredGroup
from tests import toy
from tests.credit.worked import credit_input

ANY = torch.zeros(1, 1)  # log-probabilities where only the ratio matters
FOUR = toy.scored_lengths("four", [1, 0, 0, 1], [2, 4, 3, 1])
POLICY = pad_rows([[-1.0, -0.5], [-0.2, -0.9, -2.0]], 3)
OLD = pad_rows([[-1.2, -0.4], [-0.2, -1.2, -1.5]], 3)
REFERENCE = pad_rows([[-1.1, -0.5], [-0.3, -0.9, -1.7]], 3)


def loss_of(
    algorithm: Algorithm, group: ScoredGroup, *, logprobs: torch.Tensor, streams: Streams, max_tokens: int
) -> torch.Tensor:
    batch = algorithm.credit([group], streams=streams, max_tokens=max_tokens).batch
    return algorithm.loss(PolicyOutputs(logprobs=logprobs), batch, Totals.of(batch)).loss


@pytest.mark.parametrize(
    ("eps", "expected"),
    [(1e-4, [0.865875, -0.865875, -0.865875, 0.865875]), (1e-6, [0.866024, -0.866024, -0.866024, 0.866024])],
)
def test_group_normalized_divides_by_the_sample_standard_deviation(eps: float, expected: list[float]) -> None:
    assert GroupNormalized(eps=eps)(*credit_input(FOUR)).tolist() == pytest.approx(expected, abs=1e-6)


def test_group_centered_subtracts_the_mean() -> None:
    assert GroupCentered()(*credit_input(FOUR)).tolist() == [0.5, -0.5, -0.5, 0.5]


def test_groups_do_not_see_each_other() -> None:
    other = toy.scored_lengths("other", [5, 5, 7], [1, 1, 1])
    both = GroupNormalized()(*credit_input(FOUR, other))
    assert both[:4].tolist() == GroupNormalized()(*credit_input(FOUR)).tolist()
    # other: mean 17/3, deviations −2/3, −2/3, 4/3, std √(24/9 / 2) = 1.154701
    assert both[4:].tolist() == pytest.approx([-0.577300, -0.577300, 1.154601], abs=1e-6)


def test_a_group_of_one_has_no_advantage() -> None:
    assert GroupNormalized()(*credit_input(toy.scored_lengths("one", [1.5], [3]))).tolist() == [0.0]


@pytest.mark.parametrize(
    ("algorithm", "value", "weights"),
    [
        (GRPO, 0.0, [0.108234, -0.054117, -0.072156, 0.216469]),
        (replace(DAPO, shaping=()), 0.346350, [0.086588, -0.086588, -0.086588, 0.086588]),
        (DR_GRPO, 0.0625, [0.015625, -0.015625, -0.015625, 0.015625]),
    ],
    ids=["grpo", "dapo", "dr_grpo"],
)
def test_three_normalisers_on_policy(algorithm: Algorithm, value: float, weights: list[float]) -> None:
    """Ratio 1: the value is −Σ weight · tokens, the gradient of each token −weight."""
    algorithm = replace(algorithm, divergence=NoDivergence(), reference=NoReference(), filters=())
    logprobs = torch.full((4, 4), -0.7, requires_grad=True)
    loss = loss_of(algorithm, FOUR, logprobs=logprobs, streams=Streams(), max_tokens=8)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(value, abs=1e-6)
    assert logprobs.grad is not None
    lengths = [2, 4, 3, 1]
    for row, length, weight in zip(logprobs.grad, lengths, weights, strict=True):
        assert row[:length].tolist() == pytest.approx([-weight] * length, abs=1e-6)
        assert row[length:].tolist() == [0.0] * (4 - length)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [(1.5, 0.8658, -1.038960), (1.5, -0.8658, 1.298700), (0.5, 0.8658, -0.432900), (0.5, -0.8658, 0.692640)],
)
def test_clip_takes_the_smaller_term(ratio: float, advantage: float, loss: float) -> None:
    objective, _ = Clipped()(torch.tensor([[ratio]]).log(), torch.tensor([[advantage]]), ANY)
    assert -float(objective) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(("ratio", "loss"), [(1.5, -1.108224), (1.25, -1.082250)])
def test_clip_higher_moves_the_upper_bound_only(ratio: float, loss: float) -> None:
    clip = Clipped(clip_low=0.2, clip_high=0.28)
    objective, _ = clip(torch.tensor([[ratio]]).log(), torch.tensor([[0.8658]]), ANY)
    assert -float(objective) == pytest.approx(loss, abs=1e-6)


def test_clip_stops_the_gradient_beyond_its_bounds_and_says_so() -> None:
    log_ratio = torch.tensor([[1.5, 1.1], [0.6, 0.9]]).log().requires_grad_()
    objective, clipped = Clipped()(log_ratio, torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.zeros(2, 2))
    objective.sum().backward()
    assert clipped.tolist() == [[True, False], [True, False]]
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == [[0.0, pytest.approx(1.1)], [0.0, pytest.approx(-0.9)]]


@pytest.mark.parametrize(("d", "value"), [(0.3, 0.049859), (-0.3, 0.040818), (1.0, 0.718282), (-1.0, 0.367879)])
def test_k3_is_exp_d_minus_d_minus_one(d: float, value: float) -> None:
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    penalty = K3()(logprobs, torch.tensor([[-1.0 + d]]))
    penalty.sum().backward()
    assert float(penalty.detach()) == pytest.approx(value, abs=1e-6)
    assert logprobs.grad is not None
    assert float(logprobs.grad) == pytest.approx(1 - torch.tensor(d).exp().item(), abs=1e-6)


def test_grpo_with_old_policy_and_reference() -> None:
    group = toy.scored_lengths("two", [1, 0], [2, 3])
    streams = Streams(old_logprobs=OLD, ref_logprobs=REFERENCE)
    batch = GRPO.credit([group], streams=streams, max_tokens=4).batch
    assert batch.advantages.tolist() == pytest.approx([0.707007, -0.707007], abs=1e-6)
    terms = GRPO.loss(PolicyOutputs(logprobs=POLICY), batch, Totals.of(batch))
    assert terms.surrogate == pytest.approx(-0.000872, abs=1e-6)
    assert terms.divergence == pytest.approx(0.04 * 0.010325, abs=1e-7)
    assert float(terms.loss) == pytest.approx(-0.000459, abs=1e-6)
    assert terms.sums["clipped"] == 2  # token 0 of the first (ratio 1.2214), token 2 of the second (0.6065)
    assert terms.maxima["ratio"] == pytest.approx(1.349859, abs=1e-6)


def test_token_mean_and_max_length_mean_of_the_same_rollouts() -> None:
    group = toy.scored_lengths("two", [1, 0], [2, 3])
    plain = replace(GRPO, divergence=NoDivergence(), reference=NoReference())
    streams = Streams(old_logprobs=OLD)
    token = replace(plain, aggregation=DAPO.aggregation)
    constant = replace(plain, aggregation=DR_GRPO.aggregation)
    assert float(loss_of(token, group, logprobs=POLICY, streams=streams, max_tokens=4)) == pytest.approx(
        0.147767, abs=1e-6
    )
    assert float(loss_of(constant, group, logprobs=POLICY, streams=streams, max_tokens=4)) == pytest.approx(
        0.092355, abs=1e-6
    )


@pytest.mark.parametrize(("length", "penalty"), [(80, 0.0), (90, -0.5), (100, -1.0)])
def test_soft_overlong_is_linear_in_the_last_fifth(length: int, penalty: float) -> None:
    table, context = credit_input(toy.scored_lengths("long", [1.0], [length]), max_tokens=100)
    assert SoftOverlong()(table, context).tolist() == pytest.approx([penalty])


def test_dynamic_sampling_drops_groups_without_both_outcomes() -> None:
    keep = MixedCorrectness()
    assert keep(toy.scored_lengths("x", [0, 0], [1, 1])) == "all wrong"
    assert keep(toy.scored_lengths("x", [1, 1], [1, 1])) == "all correct"
    assert keep(toy.scored_lengths("x", [1, 0], [1, 1])) is None


def test_overlong_filtering_takes_rollouts_out_of_loss_and_totals() -> None:
    rollouts = (toy.rollout([1, 2, 3], truncated=True), toy.rollout([4, 5], index=1))
    group = toy.scored(RolloutGroup(prompt=toy.text_prompt("cut"), rollouts=rollouts), [0, 1])
    algorithm = replace(DAPO, filters=(), shaping=(), loss_mask=(MaskTruncated(),))
    batch = algorithm.credit([group], streams=Streams(), max_tokens=3).batch
    assert batch.loss_mask.tolist() == [[False] * 3, [True, True, False]]
    assert Totals.of(batch) == Totals(tokens=2.0, rollouts=2.0, groups=1.0, max_tokens=3.0)
