"""Token weights by numbers worked by hand: entropy, covariance, conflicts, the most telling tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmrl.batch import RewardTable, Streams
from mmrl.credit.conflict import ConflictTokens, EntropyCost
from mmrl.credit.part import StepContext
from mmrl.credit.token_weight import ClipCovariance, HighEntropy, HighestCovariance, MostInformative, covariance
from mmrl.types import RolloutGroup, ScoredGroup
from tests import toy
from tests.credit.worked import credit_input


def one_row(streams: Streams, length: int, **keys: Any) -> tuple[RewardTable, StepContext]:
    return credit_input(toy.scored_lengths("row", [1.0], [length]), streams=streams, **keys)


def test_high_entropy_keeps_the_upper_fifth_of_the_step() -> None:
    """Sorted, the 0.8-quantile of ten lies between 0.8 and 0.9, at 0.82: tokens 3 and 8 remain."""
    entropy = torch.tensor([[0.1, 0.2, 0.05, 1.2, 0.8, 0.3, 0.02, 0.01, 0.9, 0.4]])
    table, context = one_row(Streams(entropy=entropy), 10)
    weights = HighEntropy()(torch.ones(1, 10), table, context)
    assert weights.nonzero()[:, 1].tolist() == [3, 8]


def test_covariance_of_advantage_and_likelihood() -> None:
    old = torch.tensor([[-0.1, -2.0, -0.5, -3.0]])
    table, context = one_row(Streams(old_logprobs=old), 4)
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    assert covariance(advantages, context)[0].tolist() == pytest.approx([1.3, -0.6, -0.9, 1.6])
    assert HighestCovariance(fraction=0.25)(advantages, table, context)[0].tolist() == [0, 0, 0, 1]
    assert HighestCovariance(fraction=1e-6)(advantages, table, context).sum() == 1  # at least one
    # Clip-Cov: one of the two tokens within (1, 5), by lot.
    weights = ClipCovariance()(advantages, table, context)[0].tolist()
    assert weights in ([0, 1, 1, 1], [1, 1, 1, 0])
    assert ClipCovariance()(advantages, table, context)[0].tolist() == weights
    assert ClipCovariance(low=1.5)(advantages, table, context)[0].tolist() == [1, 1, 1, 0]
    assert ClipCovariance(low=2.0)(advantages, table, context)[0].tolist() == [1, 1, 1, 1]


def test_d3s_keeps_the_most_telling_tokens_more_of_them_with_time() -> None:
    """|A|·H = 0.15, 0.24, 0.36, 0.72."""
    entropy, advantages = torch.tensor([[0.1, 1.2, 0.3, 0.8]]), torch.tensor([[1.5, 0.2, -1.2, 0.9]])
    table, context = one_row(Streams(entropy=entropy), 4, step=0, steps=11)
    assert MostInformative(first=0.5)(advantages, table, context)[0].tolist() == [0, 0, 1, 1]
    _, later = one_row(Streams(entropy=entropy), 4, step=5, steps=11)
    assert MostInformative(first=0.5)(advantages, table, later)[0].tolist() == [0, 1, 1, 1]
    _, last = one_row(Streams(entropy=entropy), 4, step=10, steps=11)
    assert MostInformative(first=0.5)(advantages, table, last)[0].tolist() == [1, 1, 1, 1]


def tokens(rows: list[list[int]], totals: list[float]) -> ScoredGroup:
    rollouts = tuple(toy.rollout(row, index=i) for i, row in enumerate(rows))
    return toy.scored(RolloutGroup(prompt=toy.text_prompt("gtpo"), rollouts=rollouts), totals)


@pytest.mark.parametrize(("count", "marked"), [("union", 3), ("released", 2)])
def test_gtpo_doubles_shared_ends_for_the_better_and_spares_the_worse(count: str, marked: int) -> None:
    """[5, 7, 9, 2] against [5, 8, 9, 2]: leading run {0}, trailing run {2, 3}."""
    table, context = credit_input(tokens([[5, 7, 9, 2], [5, 8, 9, 2]], [1, 0]))
    weights = ConflictTokens(count=count)(torch.ones(2, 4), table, context)
    assert (weights * marked).tolist() == [[2, 1, 2, 2], [0, 1, 0, 0]]


def test_gtpo_aligns_trailing_runs_on_the_right() -> None:
    """[5, 7, 2] against [8, 9, 9, 2]: only the last token is shared, at different places."""
    table, context = credit_input(tokens([[5, 7, 2], [8, 9, 9, 2]], [1, 0]))
    weights = ConflictTokens()(torch.ones(2, 4), table, context)
    assert weights[0, :3].tolist() == [1, 1, 2]
    assert weights[1].tolist() == [1, 1, 1, 0]


def test_gtpo_without_both_sides_weighs_all_alike() -> None:
    table, context = credit_input(tokens([[5, 7], [5, 7], [5, 8]], [1, 1, 1]))
    assert ConflictTokens()(torch.ones(3, 2), table, context).tolist() == [[1, 1]] * 3


def test_gtpo_charges_entropy_and_leaves_uncertain_rollouts_out() -> None:
    """H = 0.2 and 0.9: 1 − 0.1 · 0.2 = 0.98, times the group's size; the other is above 0.7."""
    entropy = torch.tensor([[0.1, 0.3], [0.9, 0.9]])
    table, context = credit_input(tokens([[5, 7], [5, 8]], [1, 0]), streams=Streams(entropy=entropy))
    assert EntropyCost()(torch.tensor([1.0, -1.0]), table, context).tolist() == pytest.approx([1.96, 0.0])
