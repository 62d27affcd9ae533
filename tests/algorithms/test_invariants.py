"""What must hold for every algorithm of the catalogue, whoever wrote it: it gets these tests by being listed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import PolicyOutputs, Streams, Totals, TrainBatch
from mmrl.types import ScoredGroup
from tests import toy

LENGTHS = ([3, 5, 1, 4], [2, 2, 6, 3], [7, 1, 2, 2])
TOTALS = ([1.2, 0.2, 0.0, 1.0], [0.0, 0.0, 1.2, 1.0], [1.2, 0.0, 0.2, 1.2])
MAX_TOKENS = 8

every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)


def groups(totals: tuple[list[float], ...] = TOTALS) -> list[ScoredGroup]:
    return [toy.scored_lengths(f"g{i}", t, n) for i, (t, n) in enumerate(zip(totals, LENGTHS, strict=True))]


def random_streams(rows: int, width: int) -> tuple[Tensor, Streams]:
    """Policy log-probabilities (float64, to differentiate numerically), and every stream a part may ask for."""
    random = torch.Generator().manual_seed(0)
    old = -torch.rand(rows, width, generator=random, dtype=torch.float64) * 2 - 0.1
    policy = old + 0.25 * torch.randn(rows, width, generator=random, dtype=torch.float64)
    ref = old + 0.1 * torch.randn(rows, width, generator=random, dtype=torch.float64)
    entropy = torch.rand(rows, width, generator=random, dtype=torch.float64)
    return policy, Streams(old_logprobs=old, ref_logprobs=ref, entropy=entropy)


def credited(
    algorithm: Algorithm, scored: list[ScoredGroup], streams: Streams, max_tokens: int = MAX_TOKENS
) -> TrainBatch:
    if not algorithm.needs_reference:
        streams = replace(streams, ref_logprobs=None)
    return algorithm.credit(scored, streams=streams, max_tokens=max_tokens).batch


def loss_and_gradient(
    algorithm: Algorithm, batch: TrainBatch, policy: Tensor, totals: Totals, entropy: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    leaf = policy.clone().requires_grad_()
    loss = algorithm.loss(PolicyOutputs(logprobs=leaf, entropy=entropy), batch, totals).loss
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


@every_algorithm
def test_padding_changes_nothing(algorithm: Algorithm) -> None:
    policy, streams = random_streams(12, 7)
    batch = credited(algorithm, groups(), streams)
    loss, gradient = loss_and_gradient(algorithm, batch, policy, Totals.of(batch))

    def wider(t: Tensor, fill: float) -> Tensor:
        return torch.cat([t, torch.full((t.shape[0], 5), fill, dtype=t.dtype)], dim=1)

    names = ("old_logprobs", "ref_logprobs", "entropy")
    padded_streams = Streams(
        **{n: None if getattr(streams, n) is None else wider(getattr(streams, n), -9.0) for n in names}
    )
    longer = toy.scored_lengths("longer", [0.0], [12])  # a longer rollout elsewhere is why padding exists
    with_longer = credited(algorithm, [*groups(), longer], _with_row(padded_streams))
    rows = torch.arange(12)
    padded = with_longer.select(rows)
    padded = replace(padded, advantages=batch.advantages, divergence_weight=batch.divergence_weight)
    padded_loss, padded_gradient = loss_and_gradient(algorithm, padded, wider(policy, -5.0), Totals.of(padded))
    assert torch.allclose(padded_loss, loss, atol=1e-12)
    assert torch.allclose(padded_gradient[:, :7], gradient, atol=1e-12)
    assert padded_gradient[:, 7:].abs().max() == 0


def _with_row(streams: Streams) -> Streams:
    def extended(t: Tensor | None) -> Tensor | None:
        return None if t is None else torch.cat([t, torch.full((1, t.shape[1]), -1.0, dtype=t.dtype)])

    return Streams(
        old_logprobs=extended(streams.old_logprobs),
        ref_logprobs=extended(streams.ref_logprobs),
        entropy=extended(streams.entropy),
    )


@every_algorithm
@pytest.mark.parametrize("sizes", [(12,), (4, 8), (1, 2, 3, 6), (1,) * 12], ids=str)
def test_micro_batches_add_up_to_the_whole(algorithm: Algorithm, sizes: tuple[int, ...]) -> None:
    policy, streams = random_streams(12, 7)
    batch = credited(algorithm, groups(), streams)
    totals = Totals.of(batch)
    loss, gradient = loss_and_gradient(algorithm, batch, policy, totals)
    shares = [
        loss_and_gradient(algorithm, batch.select(rows), policy[rows], totals)
        for rows in torch.arange(12).split(list(sizes))
    ]
    assert torch.allclose(sum((s[0] for s in shares), torch.zeros(())), loss, atol=1e-12)
    assert torch.allclose(torch.cat([s[1] for s in shares]), gradient, atol=1e-12)


@every_algorithm
def test_order_of_rows_changes_nothing(algorithm: Algorithm) -> None:
    policy, streams = random_streams(12, 7)
    batch = credited(algorithm, groups(), streams)
    loss, gradient = loss_and_gradient(algorithm, batch, policy, Totals.of(batch))
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = batch.select(order)
    other_loss, other_gradient = loss_and_gradient(algorithm, shuffled, policy[order], Totals.of(shuffled))
    assert torch.allclose(other_loss, loss, atol=1e-12)
    assert torch.allclose(other_gradient, gradient[order], atol=1e-12)


@every_algorithm
def test_order_of_groups_changes_no_rollout_s_advantage(algorithm: Algorithm) -> None:
    _, streams = random_streams(12, 7)
    batch = credited(algorithm, groups(), streams)
    back = torch.cat([torch.arange(8, 12), torch.arange(4, 8), torch.arange(4)])
    reordered = credited(algorithm, groups()[::-1], _select(streams, back))
    assert torch.allclose(reordered.advantages, batch.advantages[back], atol=1e-6)
    assert torch.allclose(reordered.token_weights, batch.token_weights[back], atol=1e-6)


def _select(streams: Streams, rows: Tensor) -> Streams:
    return Streams(
        old_logprobs=None if streams.old_logprobs is None else streams.old_logprobs[rows],
        ref_logprobs=None if streams.ref_logprobs is None else streams.ref_logprobs[rows],
        entropy=None if streams.entropy is None else streams.entropy[rows],
    )


@every_algorithm
@pytest.mark.parametrize("reward", [0.0, 1.0, 1.2, 0.1 + 0.2])
def test_constant_rewards_give_zero_gradient(algorithm: Algorithm, reward: float) -> None:
    """Nothing to compare, nothing to learn: exactly, not nearly. The divergence apart, which pulls whatever is paid."""
    policy, streams = random_streams(12, 7)
    same = groups(tuple([reward] * 4 for _ in LENGTHS))
    batch = credited(algorithm, same, streams, max_tokens=100)  # far enough for length penalties to be 0
    no_divergence = replace(batch, divergence_weight=torch.zeros_like(batch.divergence_weight))
    _, gradient = loss_and_gradient(algorithm, no_divergence, policy, Totals.of(batch))
    assert gradient.abs().max() == 0


@every_algorithm
def test_gradient_matches_finite_differences(algorithm: Algorithm) -> None:
    policy, streams = random_streams(12, 7)
    batch = credited(algorithm, groups(), streams)
    totals = Totals.of(batch)
    _, gradient = loss_and_gradient(algorithm, batch, policy, totals)
    step = 1e-6
    for row, token in [(0, 0), (1, 4), (3, 2), (6, 5), (8, 6), (11, 1)]:
        bump = torch.zeros_like(policy)
        bump[row, token] = step
        up = algorithm.loss(PolicyOutputs(logprobs=policy + bump), batch, totals).loss
        down = algorithm.loss(PolicyOutputs(logprobs=policy - bump), batch, totals).loss
        assert float((up - down) / (2 * step)) == pytest.approx(float(gradient[row, token]), abs=1e-7)


@every_algorithm
def test_on_policy_gradient_is_the_policy_gradient(algorithm: Algorithm) -> None:
    """Without old log-probabilities the ratio is 1 in value; its gradient is that of −weight · A · log π."""
    policy, _ = random_streams(12, 7)
    batch = replace(credited(algorithm, groups(), Streams(ref_logprobs=policy)), streams=Streams())
    _, gradient = loss_and_gradient(algorithm, batch, policy, Totals.of(batch))
    signs = -torch.sign(batch.advantages)[:, None].expand(-1, 7)
    inside = batch.loss_mask & (batch.token_weights > 0)
    assert torch.equal(torch.sign(gradient)[inside], signs[inside].double())
    assert gradient[~batch.loss_mask].abs().max() == 0
