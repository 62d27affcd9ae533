"""Advantages of the variants, by numbers worked by hand."""

from __future__ import annotations

import pytest
import torch

from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import Streams
from mmrl.credit.absolute import SignedCorrectness
from mmrl.credit.advantage import BatchScaled, GroupNormalized, LeaveOneOut, VirtualBest
from mmrl.credit.beta_normalized import BetaNormalized, fitted_beta
from mmrl.credit.filters import PassRateWithin, SomeWrong
from mmrl.credit.group_weight import ScheduledWeight, SemanticEntropy, most_varied
from mmrl.credit.shaping import DivergencePaid, ShorterWhenRight, SoftTop, Unlikeliness
from mmrl.credit.token_advantage import PenalizedReturns, Whitened
from mmrl.tensors import pad_rows
from mmrl.types import Completion, RolloutGroup, ScoredGroup
from tests import toy
from tests.credit.worked import credit_input

OLD = pad_rows([[-1.2, -0.4], [-0.2, -1.2, -1.5]], 3)
REFERENCE = pad_rows([[-1.1, -0.5], [-0.3, -0.9, -1.7]], 3)


def group(totals: list[float], lengths: list[int] | None = None, id_: str = "g") -> ScoredGroup:
    return toy.scored_lengths(id_, totals, lengths or [1] * len(totals))


def test_rloo_leaves_the_rollout_out_of_its_baseline() -> None:
    advantages = LeaveOneOut()(*credit_input(group([1, 0, 0, 1])))
    assert advantages.tolist() == pytest.approx([0.666667, -0.666667, -0.666667, 0.666667], abs=1e-6)
    assert LeaveOneOut()(*credit_input(group([1.0]))).tolist() == [0.0]


def test_rloo_pays_the_divergence_in_the_reward() -> None:
    """First: (−1.2 + 1.1) + (−0.4 + 0.5) = 0; second: 0.1 − 0.3 + 0.2 = 0; both paths end where they began."""
    streams = Streams(old_logprobs=OLD, ref_logprobs=REFERENCE)
    table, context = credit_input(group([1, 0], [2, 3]), streams=streams)
    assert DivergencePaid(coef=0.1)(table, context).tolist() == pytest.approx([0, 0], abs=1e-6)
    shifted = Streams(old_logprobs=OLD + 0.5, ref_logprobs=REFERENCE)
    table, context = credit_input(group([1, 0], [2, 3]), streams=shifted)
    assert DivergencePaid(coef=0.1)(table, context).tolist() == pytest.approx([-0.1, -0.15], abs=1e-6)


def test_lite_ppo_takes_the_step_s_spread() -> None:
    """[1, 0, 0, 1] and [1, 1, 1, 0]: std of all eight, 5 ones, is 0.517549."""
    both = BatchScaled(eps=0.0)(*credit_input(group([1, 0, 0, 1]), group([1, 1, 1, 0], id_="h")))
    assert both.tolist() == pytest.approx(
        [d / 0.517549 for d in (0.5, -0.5, -0.5, 0.5, 0.25, 0.25, 0.25, -0.75)], abs=1e-5
    )


def test_reinforce_plus_plus_whitens_returns_over_all_tokens() -> None:
    """β 0.1: R = [1.0, 0.99], [0.0, 0.01, −0.02]; mean 0.396, std 0.546928."""
    table, context = credit_input(group([1, 0], [2, 3]), streams=Streams(old_logprobs=OLD, ref_logprobs=REFERENCE))
    advantages = PenalizedReturns(coef=0.1)(table.total, table, context)
    assert advantages[0, :2].tolist() == pytest.approx([1.104351, 1.086067], abs=1e-5)
    assert advantages[1].tolist() == pytest.approx([-0.724044, -0.705760, -0.760612], abs=1e-5)
    assert advantages[0, 2] == 0


def test_reinforce_plus_plus_baseline_whitens_by_tokens_not_by_rollouts() -> None:
    """±0.5 on two and three tokens: mean −0.1, var (2 · 0.36 + 3 · 0.16)/4 = 0.3, std 0.547723."""
    table, context = credit_input(group([1, 0], [2, 3]))
    advantages = Whitened()(torch.tensor([0.5, -0.5]), table, context)
    assert advantages[0, :2].tolist() == pytest.approx([1.095445] * 2, abs=1e-5)
    assert advantages[1].tolist() == pytest.approx([-0.730297] * 3, abs=1e-5)


def test_bnpo_fits_a_beta_distribution_to_the_pass_rates() -> None:
    alpha, beta = fitted_beta(torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64))
    assert [float(alpha), float(beta)] == pytest.approx([1.260417, 1.15625], abs=1e-6)
    groups = [group([1.0] * k + [0.0] * (4 - k), id_=f"g{k}") for k in (1, 2, 3, 4)]
    advantages = BetaNormalized()(*credit_input(*groups)).reshape(4, 4)
    for k, inverse in ((1, 1.006100), (2, 0.894874), (3, 0.897307)):
        p = k / 4
        expected = [(1 - p) * inverse] * k + [-p * inverse] * (4 - k)
        assert advantages[k - 1].tolist() == pytest.approx(expected, abs=1e-5)
    assert advantages[3].tolist() == [0.0] * 4


@pytest.mark.parametrize("rates", [[0.5], [0.5, 0.5, 0.5], [0.0, 0.0], [1.0, 1.0]])
def test_bnpo_without_a_spread_of_pass_rates_is_the_centred_reward(rates: list[float]) -> None:
    groups = [group([float(i < 4 * p) for i in range(4)], id_=f"g{g}") for g, p in enumerate(rates)]
    advantages = BetaNormalized()(*credit_input(*groups))
    table, _ = credit_input(*groups)
    expected = [r - p for p in rates for r in [float(i < 4 * p) for i in range(4)]]
    assert advantages.tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.isfinite(advantages).all()
    assert len(table.total) == 4 * len(rates)


def test_ngrpo_s_imagined_rollout_makes_all_wrong_groups_learn() -> None:
    assert VirtualBest()(*credit_input(group([0.0] * 8))).tolist() == pytest.approx([-0.333332] * 8, abs=1e-6)
    mixed = VirtualBest()(*credit_input(group([1, 0, 0, 1])))
    assert mixed.tolist() == pytest.approx([0.730295, -1.095443, -1.095443, 0.730295], abs=1e-5)
    assert VirtualBest()(*credit_input(group([1.0] * 4))).tolist() == [0.0] * 4


def test_ngrpo_drops_all_correct_groups_only() -> None:
    assert SomeWrong()(group([1, 1])) == "all correct"
    assert SomeWrong()(group([0, 0])) is None


@pytest.mark.parametrize(
    ("right", "wrong", "expected"), [(1.0, 0.0, [1, 0]), (0.0, 1.0, [0, -1]), (0.1, 1.0, [0.1, -1])]
)
def test_psr_nsr_and_their_weighted_sum(right: float, wrong: float, expected: list[float]) -> None:
    advantages = SignedCorrectness(right=right, wrong=wrong)(*credit_input(group([1, 0])))
    assert advantages.tolist() == pytest.approx(expected)


def test_unlikely_rollouts_keep_more_of_their_reward() -> None:
    """Ranks 0.75, 0.25, 0, 0.5: totals 0.8125, 0, 1, 0.875."""
    old = torch.tensor([[-0.2], [-0.9], [-1.5], [-0.6]])
    table, context = credit_input(group([1, 0, 1, 1]), streams=Streams(old_logprobs=old))
    shaped = table.total + Unlikeliness()(table, context)
    assert shaped.tolist() == pytest.approx([0.8125, 0, 1, 0.875])
    batch = (
        ALGORITHMS["unlikeliness"].credit([group([1, 0, 1, 1])], streams=Streams(old_logprobs=old), max_tokens=4).batch
    )
    assert batch.advantages.tolist() == pytest.approx([0.309304, -1.477785, 0.721709, 0.446772], abs=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.04, 0.1, [0.07, 0.055, 0.04, 0.07, 0.1]), (0.0, 0.02, [0.01, 0.005, 0, 0.01, 0.02])],
)
def test_grpo_d_s_coefficient_is_a_v(low: float, high: float, expected: list[float]) -> None:
    schedule = ScheduledWeight(low=low, high=high, exploration=0.3)
    assert [schedule.coefficient(s, 1000) for s in (0, 150, 300, 650, 1000)] == pytest.approx(expected)
    up = ScheduledWeight(low=low, high=high, schedule="linear_up")
    assert [up.coefficient(s, 1000) for s in (0, 500, 1000)] == pytest.approx([low, (low + high) / 2, high])


def test_grpo_d_s_coefficient_reaches_the_batch() -> None:
    streams = Streams(ref_logprobs=torch.zeros(2, 1))
    batch = ALGORITHMS["grpo_d"].credit([group([1, 0])], streams=streams, max_tokens=4, step=300, steps=1000).batch
    assert batch.divergence_weight.tolist() == pytest.approx([0.04, 0.04])


def test_grpo_lambda_pays_short_correct_rollouts_where_most_are_correct() -> None:
    """Correct lengths 10, 20, 30: std 10, so −0.5 · sigmoid(−1, 0, 1); one wrong. Three of eight: plain."""
    solved = ShorterWhenRight()(*credit_input(group([1, 1, 1, 0], [10, 20, 30, 90])))
    assert solved.tolist() == pytest.approx([-0.5 * 0.268941, -0.25, -0.5 * 0.731059, 0], abs=1e-6)
    hard = ShorterWhenRight()(*credit_input(group([1, 1, 1, 0, 0, 0, 0, 0], [10, 20, 30, 1, 1, 1, 1, 1])))
    assert hard.tolist() == [0.0] * 8


def test_tempsamp_s_soft_reward_map() -> None:
    table, context = credit_input(group([1, 0.9, 0.8, 0.6, 0.3, 0]))
    shaped = table.total + SoftTop()(table, context)
    expected = [0.801823, 0.800953, 0.8, 0.671149, 0.422459, 0.086764]
    assert shaped.tolist() == pytest.approx(expected, abs=1e-6)


def test_tempsamp_s_advantages_before_and_after_shaping() -> None:
    table, context = credit_input(group([0.1, 0.3, 0.55, 1.0]))
    raw = GroupNormalized(eps=1e-6)(table, context)
    assert raw.tolist() == pytest.approx([-0.998440, -0.483116, 0.161039, 1.320518], abs=2e-6)
    shaped, _ = credit_input(group((table.total + SoftTop()(table, context)).tolist()))
    soft = GroupNormalized(eps=1e-6)(shaped, context)
    assert soft.tolist() == pytest.approx([-1.195432, -0.368834, 0.457004, 1.107262], abs=2e-6)


def answers(texts: list[str], totals: list[float]) -> ScoredGroup:
    rollouts = tuple(toy.rollout([7], index=i, text=f"<answer>{t}</answer>") for i, t in enumerate(texts))
    return toy.scored(RolloutGroup(prompt=toy.text_prompt("seed"), rollouts=rollouts), totals)


def test_seed_grpo_shrinks_groups_whose_answers_scatter() -> None:
    """Shares 4, 2, 1, 1 of 8: entropy 1.213008 = 0.583333 ln 8; factor 1 − 0.5 · 0.583333 = 0.708333."""
    scored = answers(["4", "4", " 4", "4", "B", "b", "x", "y"], [1, 1, 1, 1, 0, 0, 0, 0])
    batch = (
        ALGORITHMS["seed_grpo"].credit([scored], streams=Streams(ref_logprobs=torch.zeros(8, 1)), max_tokens=4).batch
    )
    assert batch.advantages.tolist() == pytest.approx([0.354167] * 4 + [-0.354167] * 4, abs=1e-6)
    table, context = credit_input(scored)
    exponential = SemanticEntropy(form="exponential")(torch.ones(8), table, context)
    assert exponential.tolist() == pytest.approx([0.747015] * 8, abs=1e-5)


def test_answers_are_told_apart_by_the_last_answer_block() -> None:
    scored = answers(["A</answer> no <answer>B", "b", "c"], [0, 0, 0])
    plain = toy.rollout([7], index=3)
    plain = type(plain)(**{f: getattr(plain, f) for f in plain.__slots__} | {"completion": Completion(text="B")})
    table, _ = credit_input(
        toy.scored(RolloutGroup(prompt=scored.group.prompt, rollouts=(*scored.group.rollouts, plain)), [0] * 4)
    )
    assert table.answer.tolist() == [0, 0, 1, 0]


def test_d3s_keeps_the_most_varied_rollouts() -> None:
    values = torch.tensor([1.5, 0.2, -0.1, -1.2, 0.9, -0.8, 0.0, 0.1])
    chosen = most_varied(values, 4)
    assert chosen.nonzero().squeeze(1).tolist() == [0, 3, 4, 5]
    assert float(values[chosen > 0].var(correction=0)) == pytest.approx(1.275)
    assert float(values.var(correction=0)) == pytest.approx(0.644375)


@pytest.mark.parametrize(
    ("correct", "kept"), [(0, False), (1, False), (2, True), (4, True), (6, True), (7, False), (8, False)]
)
def test_pass_rate_within_keeps_two_to_six_of_eight(correct: int, kept: bool) -> None:
    reason = PassRateWithin()(group([1.0] * correct + [0.0] * (8 - correct)))
    assert (reason is None) == kept
