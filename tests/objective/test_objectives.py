"""Ratios, surrogates, divergences and couplings by numbers worked by hand.

The two-sequence case is that of `tests/algorithms/test_worked_numbers.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import PolicyOutputs, Streams, Totals, TrainBatch
from mmrl.errors import ConfigError
from mmrl.objective.coupling import AdvantageRegression, ChiSquared, RightAboveWrong, TrustRegion, normalised
from mmrl.objective.divergence import K1, K2, K3, Absolute, ForwardKL, GeneratorDivergence
from mmrl.objective.ratio import SequenceRatio, SequenceTokenRatio
from mmrl.objective.regularizer import DistanceToOld
from mmrl.objective.surrogate import CappedWeight, Clipped, DualClipped
from mmrl.tensors import pad_rows
from tests import toy

POLICY = pad_rows([[-1.0, -0.5], [-0.2, -0.9, -2.0]], 3)
OLD = pad_rows([[-1.2, -0.4], [-0.2, -1.2, -1.5]], 3)
MASK = torch.tensor([[True, True, False], [True, True, True]])


def batch_of(name: str, totals: list[float], lengths: list[int], streams: Streams, max_tokens: int = 8) -> TrainBatch:
    group = toy.scored_lengths("two", totals, lengths)
    return ALGORITHMS[name].credit([group], streams=streams, max_tokens=max_tokens).batch


def test_gspo_s_ratio_is_the_geometric_mean_and_both_rollouts_are_clipped() -> None:
    """s = [1.051271, 0.935507]; losses −0.707290 and 0.706795."""
    assert SequenceRatio()(POLICY, OLD, MASK)[:, 0].exp().tolist() == pytest.approx([1.051271, 0.935507], abs=1e-6)
    batch = batch_of("gspo", [1, 0], [2, 3], Streams(old_logprobs=OLD))
    gspo = ALGORITHMS["gspo"]
    rows = [batch.select(torch.tensor([i])) for i in range(2)]
    losses = [
        gspo.loss(PolicyOutputs(logprobs=POLICY[i : i + 1]), row, Totals.of(row)).loss for i, row in enumerate(rows)
    ]
    assert [float(x) for x in losses] == pytest.approx([-0.707290, 0.706795], abs=1e-6)
    assert gspo.loss(PolicyOutputs(logprobs=POLICY), batch, Totals.of(batch)).sums["clipped"] == 5


def gradients(name: str, policy: Tensor, batch: TrainBatch) -> tuple[float, Tensor]:
    leaf = policy.clone().requires_grad_()
    loss = ALGORITHMS[name].loss(PolicyOutputs(logprobs=leaf), batch, Totals.of(batch)).loss
    loss.backward()
    assert leaf.grad is not None
    return float(loss.detach()), leaf.grad


def test_gspo_token_has_gspo_s_value_and_gradient_for_equal_token_advantages() -> None:
    near = OLD + 1e-4 * torch.randn(2, 3, generator=torch.Generator().manual_seed(0)) * MASK
    batch = batch_of("gspo", [1, 0], [2, 3], Streams(old_logprobs=OLD))
    value, gradient = gradients("gspo", near, batch)
    token_value, token_gradient = gradients("gspo_token", near, batch)
    assert token_value == pytest.approx(value, abs=1e-7)
    assert torch.allclose(token_gradient, gradient, atol=1e-6)
    assert SequenceTokenRatio()(POLICY, OLD, MASK)[:, 0].exp().tolist() == pytest.approx([1.051271, 0.935507], abs=1e-6)


def test_gspo_is_grpo_for_completions_of_one_token() -> None:
    old = torch.tensor([[-1.0], [-0.5]])
    policy = old + torch.tensor([[0.3], [0.1]])
    batch = batch_of("gspo", [1, 0], [1, 1], Streams(old_logprobs=old))
    grpo = replace(ALGORITHMS["gspo"], ratio=ALGORITHMS["grpo"].ratio)
    outputs = PolicyOutputs(logprobs=policy)
    assert float(ALGORITHMS["gspo"].loss(outputs, batch, Totals.of(batch)).loss) == pytest.approx(
        float(grpo.loss(outputs, batch, Totals.of(batch)).loss)
    )


def test_the_unnormalised_sequence_ratio_is_the_sequences_probability_ratio() -> None:
    ratio = SequenceRatio(length_normalized=False)(POLICY, OLD, MASK)[:, 0]
    assert ratio.exp().tolist() == pytest.approx([math.exp(0.1), math.exp(-0.2)], abs=1e-6)


def test_luspo_weighs_a_rollout_by_its_length() -> None:
    """GSPO's losses −0.707290 and 0.706795, times 2 and 3, over 2 rollouts."""
    batch = batch_of("luspo", [1, 0], [2, 3], Streams(old_logprobs=OLD))
    loss = ALGORITHMS["luspo"].loss(PolicyOutputs(logprobs=POLICY), batch, Totals.of(batch)).loss
    assert float(loss) == pytest.approx((-0.707290 * 2 + 0.706795 * 3) / 2, abs=1e-5)


def test_cispo_bounds_the_weight_and_keeps_the_gradient() -> None:
    """ρ 1.5, A 0.866, log π −0.7, upper bound 1.28: loss 0.775936, gradient of the loss −1.108480."""
    logprob = torch.tensor([[-0.7]], requires_grad=True)
    objective, clipped = CappedWeight(clip_low=0.2, clip_high=0.28)(
        torch.tensor([[1.5]]).log(), torch.tensor([[0.866]]), logprob
    )
    (-objective).sum().backward()
    assert -float(objective.detach()) == pytest.approx(0.775936, abs=1e-6)
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(-1.108480, abs=1e-6)
    assert clipped.tolist() == [[True]]
    lower, _ = CappedWeight(clip_low=1.0)(torch.tensor([[0.01]]).log(), torch.tensor([[1.0]]), torch.tensor([[-1.0]]))
    assert float(lower) == pytest.approx(-0.01)


def test_dual_clip_bounds_the_loss_of_a_runaway_ratio() -> None:
    log_ratio = torch.tensor([[math.log(10), math.log(2.5), math.log(10)]])
    advantages = torch.tensor([[-1.0, -1.0, 1.0]])
    once, _ = Clipped()(log_ratio, advantages, log_ratio)
    twice, clipped = DualClipped(most=3.0)(log_ratio, advantages, log_ratio)
    assert once[0].tolist() == pytest.approx([-10, -2.5, 1.2])
    assert twice[0].tolist() == pytest.approx([-3, -2.5, 1.2])
    assert clipped.tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("divergence", "d", "value"),
    [
        (K1(), 0.3, -0.3),
        (K2(), 0.3, 0.045),
        (Absolute(), -0.3, 0.3),
        (K3(), 1.0, 0.718282),
        (K3(clamp=0.5), 1.0, math.expm1(0.5) - 0.5),
        (ForwardKL(), 0.3, 0.055099),
        (GeneratorDivergence(form="forward_kl"), -0.5, 0.148721),
        (GeneratorDivergence(form="forward_kl"), 0.5, 0.106531),
        (GeneratorDivergence(form="jensen_shannon"), -0.5, 0.080256),
        (GeneratorDivergence(form="jensen_shannon"), 0.5, 0.048678),
        (GeneratorDivergence(form="alpha"), -0.5, 0.169702),
    ],
    ids=repr,
)
def test_divergences(divergence: K1, d: float, value: float) -> None:
    """d = log π_ref − log π."""
    penalty = divergence(torch.tensor([[-1.0]]), torch.tensor([[-1.0 + d]]))
    assert float(penalty) == pytest.approx(value, abs=1e-6)


def test_an_unknown_generator_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="unknown form 'js'"):
        GeneratorDivergence(form="js")


def test_kl_cov_s_penalty_is_the_distance_to_the_old_policy_on_the_chosen_tokens() -> None:
    batch = batch_of("kl_cov", [1, 0], [2, 3], Streams(old_logprobs=OLD))
    penalty = DistanceToOld()(PolicyOutputs(logprobs=POLICY), batch)
    assert penalty[1].tolist() == pytest.approx([0.0, 0.3, 0.5], abs=1e-6)
    assert batch.regularizer_weight.sum() == 1
    kl_cov = ALGORITHMS["kl_cov"]
    free = replace(kl_cov, regularizers=())
    outputs, totals = PolicyOutputs(logprobs=POLICY), Totals.of(batch)
    difference = kl_cov.loss(outputs, batch, totals).loss - free.loss(outputs, batch, totals).loss
    assert float(difference) == pytest.approx(float((penalty * batch.regularizer_weight).sum()) / 5, abs=1e-6)


def four(
    logprobs: list[float], streams: Streams, lengths: list[int] | None = None, max_tokens: int = 8192
) -> TrainBatch:
    return batch_of("grpo", [1, 0, 0, 1], lengths or [1, 1, 1, 1], streams, max_tokens)


def test_reg_grpo_fits_normalised_log_ratios_to_advantages() -> None:
    """ρ = [0.2, −0.1, 0.05, −0.3]: Â = [1.111891, −0.292603, 0.409644, −1.228932]; loss 1.600334 with eps in both."""
    ratio = torch.tensor([0.2, -0.1, 0.05, -0.3])
    expected = [1.111891, -0.292603, 0.409644, -1.228932]
    assert normalised(ratio, 0.0).tolist() == pytest.approx(expected, abs=1e-5)
    old = torch.full((4, 1), -1.0)
    batch = four([], Streams(old_logprobs=old))
    loss = AdvantageRegression(eps=1e-4)(old + ratio[:, None], batch, Totals.of(batch))
    assert float(loss) == pytest.approx(1.600334, abs=1e-5)
    exact = AdvantageRegression(eps=0.0)(
        old + ratio[:, None], replace(batch, advantages=batch.advantages * 1.0001732), Totals.of(batch)
    )
    assert float(exact) == pytest.approx(1.601361, abs=1e-4)


def test_reg_grpo_s_first_update_is_finite_and_points_along_the_advantages() -> None:
    old = torch.full((4, 1), -1.0)
    batch = four([], Streams(old_logprobs=old))
    coupled = ALGORITHMS["reg_grpo"].couple(batch, old, Totals.of(batch))
    assert torch.isfinite(coupled.coupling_slope).all()
    assert torch.equal(torch.sign(-coupled.coupling_slope[:, 0]), torch.sign(batch.advantages))


def test_disco_s_margin() -> None:
    """s = [−0.5, −0.8, −0.6, −1.2], r = [1, 0, 0, 1], tau 10: J = −0.85 − (−0.6995) = −0.1505."""
    score = torch.tensor([[-0.5], [-0.8], [-0.6], [-1.2]], requires_grad=True)
    batch = four([], Streams())
    loss = RightAboveWrong(length_decay=0.0)(score, batch, Totals.of(batch))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.1505, abs=1e-4)
    assert score.grad is not None
    assert score.grad[:, 0].tolist() == pytest.approx([-0.5, 0.495, 0.505, -0.5], abs=1e-4)


@pytest.mark.parametrize(("decay", "weights"), [(0.1, [0.992481, 0.007519]), (1.0, [0.619701, 0.380299])])
def test_drpo_weighs_short_right_rollouts_more(decay: float, weights: list[float]) -> None:
    """Right rollouts of 2000 and 6000 of 8192 tokens."""
    logprobs = torch.zeros(4, 6000, requires_grad=True)
    batch = four([], Streams(), [2000, 10, 10, 6000])
    RightAboveWrong(length_decay=decay)(logprobs, batch, Totals.of(batch)).backward()
    assert logprobs.grad is not None
    sums = logprobs.grad.sum(dim=1)
    assert [-float(sums[0]), -float(sums[3])] == pytest.approx(weights, abs=1e-4)


def test_disco_counts_groups_without_both_outcomes_in_its_mean_only() -> None:
    mixed = toy.scored_lengths("a", [1, 0], [1, 1])
    flat = toy.scored_lengths("b", [1, 1], [1, 1])
    batch = (
        ALGORITHMS["disco"].credit([mixed, flat], streams=Streams(old_logprobs=torch.zeros(4, 1)), max_tokens=8).batch
    )
    score = torch.tensor([[-0.5], [-0.8], [-0.1], [-0.2]])
    loss = RightAboveWrong(length_decay=0.0)(score, batch, Totals.of(batch))
    assert float(loss) == pytest.approx(-0.3 / 2, abs=1e-6)


@pytest.mark.parametrize(("moved", "value"), [(3e-4, 6e-5), (1e-4, 0.0), (-1.0, 0.0)])
def test_trust_region_acts_beyond_its_radius(moved: float, value: float) -> None:
    """K̂ 3e-4: coefficient 1000 · 2e-4 = 0.2, penalty 6e-5."""
    old = torch.full((4, 1), -1.0, dtype=torch.float64)
    batch = four([], Streams(old_logprobs=old))
    penalty = TrustRegion()((old - moved).requires_grad_(), batch, Totals.of(batch))
    assert float(penalty.detach()) == pytest.approx(value, abs=1e-9)


def test_chi_squared_of_whole_rollouts() -> None:
    """l = [0.3, −0.2, 0.1, 0]: χ̂² 0.035205, root 0.187629."""
    ref = torch.full((4, 1), -1.0, dtype=torch.float64)
    batch = four([], Streams(ref_logprobs=ref))
    log_ratio = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)[:, None]
    assert float(ChiSquared(coef=1.0)(ref + log_ratio, batch, Totals.of(batch))) == pytest.approx(0.187629, abs=1e-6)
    far = float(ChiSquared(coef=1.0)(ref + 1000.0, batch, Totals.of(batch)))
    assert far == pytest.approx(math.sqrt(math.expm1(10) + 990 * math.exp(10) - 1), rel=1e-6)
