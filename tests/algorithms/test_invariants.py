"""What must hold for every algorithm of the catalogue, whoever wrote it: it gets these tests by being listed.

Where an invariant cannot hold by intent, a part says so by a class variable (`separates_equal_rewards`,
`stops_gradients`), and that declaration is tested too.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import Credited, Need, PolicyOutputs, Streams, Totals, TrainBatch
from mmrl.types import ScoredGroup
from tests import toy

LENGTHS = ([3, 5, 1, 4], [2, 2, 6, 3], [7, 1, 2, 2])
TOTALS = ([1.2, 0.2, 0.0, 1.0], [0.0, 0.0, 1.2, 1.0], [1.2, 0.0, 0.2, 1.2])
MASK = torch.arange(7)[None, :] < torch.tensor([n for row in LENGTHS for n in row])[:, None]
MAX_TOKENS = 8
# What an adaptive part may have learnt before: g0 is believed to be hard, g1 easy, g2 unknown.
MEMORY = {"value_tracker": {"g0": {"counts": [2.0, 6.0]}, "g1": {"counts": [7.0, 1.0]}}}

ENTRIES = list(ALGORITHMS.values())


def every(algorithms: list[Algorithm]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("algorithm", algorithms, ids=[a.name for a in algorithms])


def groups(totals: tuple[list[float], ...] = TOTALS) -> list[ScoredGroup]:
    return [toy.scored_lengths(f"g{i}", t, n) for i, (t, n) in enumerate(zip(totals, LENGTHS, strict=True))]


def random_streams(outside: float = 0.0) -> tuple[Tensor, Streams]:
    """Policy log-probabilities (float64, to differentiate numerically), and every stream a part may ask for.

    Beyond the ends of the rollouts all of them are `outside`.
    """
    random = torch.Generator().manual_seed(0)
    old = -torch.rand(12, 7, generator=random, dtype=torch.float64) * 2 - 0.1
    policy = old - 0.1 + 0.25 * torch.randn(12, 7, generator=random, dtype=torch.float64)
    ref = old + 0.1 * torch.randn(12, 7, generator=random, dtype=torch.float64)
    entropy = torch.rand(12, 7, generator=random, dtype=torch.float64)
    span = torch.randint(0, 3, (12, 7), generator=random)
    span[:, 0] = 2

    masked = old - 0.4 * torch.rand(12, 7, generator=random, dtype=torch.float64)

    def cut(values: Tensor) -> Tensor:
        return torch.where(MASK, values, torch.full_like(values, outside))

    span = torch.where(MASK, span, 0)
    differ = torch.rand(3, 7, generator=random, dtype=torch.float64).repeat_interleave(4, dim=0)
    return cut(policy), Streams(
        old_logprobs=cut(old),
        ref_logprobs=cut(ref),
        entropy=cut(entropy),
        masked_logprobs=cut(masked),
        answer_span=span,
        disagreement=cut(differ),
    )


def credit(algorithm: Algorithm, scored: list[ScoredGroup], streams: Streams, max_tokens: int = MAX_TOKENS) -> Credited:
    """What the loop does: the old policy always, other streams only where a part needs them."""
    if Need.REF_LOGPROBS not in algorithm.needs:
        streams = replace(streams, ref_logprobs=None)
    if Need.ENTROPY not in algorithm.needs:
        streams = replace(streams, entropy=None)
    if Need.MASKED_LOGPROBS not in algorithm.needs:
        streams = replace(streams, masked_logprobs=None)
    return algorithm.credit(scored, streams=streams, max_tokens=max_tokens, step=2, steps=10, memory=MEMORY)


def credited(
    algorithm: Algorithm, scored: list[ScoredGroup], policy: Tensor, streams: Streams, max_tokens: int = MAX_TOKENS
) -> TrainBatch:
    """Credit, and what couplings add before an update."""
    batch = credit(algorithm, scored, streams, max_tokens).batch
    return algorithm.couple(batch, policy, Totals.of(batch)) if algorithm.couplings else batch


def loss_and_gradient(algorithm: Algorithm, batch: TrainBatch, policy: Tensor, totals: Totals) -> tuple[Tensor, Tensor]:
    leaf = policy.clone().requires_grad_()
    loss = algorithm.loss(PolicyOutputs(logprobs=leaf), batch, totals).loss
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


@every(ENTRIES)
def test_padding_changes_nothing(algorithm: Algorithm) -> None:
    """Neither what lies beyond the ends of rollouts, in credit and loss, nor how far the batch is padded."""
    policy, streams = random_streams()
    batch = credited(algorithm, groups(), policy, streams)
    loss, gradient = loss_and_gradient(algorithm, batch, policy, Totals.of(batch))
    junk_policy, junk_streams = random_streams(outside=-9.0)
    junk = credited(algorithm, groups(), junk_policy, junk_streams)
    wider = junk._map(lambda t: torch.cat([t, torch.zeros(12, 5, dtype=t.dtype)], dim=1) if t.dim() == 2 else t)
    wide_policy = torch.cat([junk_policy, torch.full((12, 5), -5.0, dtype=torch.float64)], dim=1)
    wide_loss, wide_gradient = loss_and_gradient(algorithm, wider, wide_policy, Totals.of(wider))
    assert torch.allclose(wide_loss, loss, atol=1e-12)
    assert torch.allclose(wide_gradient[:, :7], gradient, atol=1e-12)
    assert wide_gradient[:, 7:].abs().max() == 0


@every(ENTRIES)
@pytest.mark.parametrize("sizes", [(12,), (4, 8), (1, 2, 3, 6), (1,) * 12], ids=str)
def test_micro_batches_add_up_to_the_whole(algorithm: Algorithm, sizes: tuple[int, ...]) -> None:
    """Two ranks that share a step are two micro-batches: each holds rows, both divide by the step's totals."""
    policy, streams = random_streams()
    batch = credited(algorithm, groups(), policy, streams)
    totals = Totals.of(batch)
    loss, gradient = loss_and_gradient(algorithm, batch, policy, totals)
    shares = [
        loss_and_gradient(algorithm, batch.select(rows), policy[rows], totals)
        for rows in torch.arange(12).split(list(sizes))
    ]
    assert torch.allclose(sum((s[0] for s in shares), torch.zeros(())), loss, atol=1e-12)
    assert torch.allclose(torch.cat([s[1] for s in shares]), gradient, atol=1e-12)


@every(ENTRIES)
def test_order_of_rows_changes_nothing(algorithm: Algorithm) -> None:
    policy, streams = random_streams()
    batch = credit(algorithm, groups(), streams).batch
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = batch.select(order)
    totals = Totals.of(batch)
    if algorithm.couplings:
        batch, shuffled = algorithm.couple(batch, policy, totals), algorithm.couple(shuffled, policy[order], totals)
    loss, gradient = loss_and_gradient(algorithm, batch, policy, totals)
    other_loss, other_gradient = loss_and_gradient(algorithm, shuffled, policy[order], totals)
    assert torch.allclose(other_loss, loss, atol=1e-12)
    assert torch.allclose(other_gradient, gradient[order], atol=1e-12)


@every(ENTRIES)
def test_order_of_groups_changes_no_rollout_s_credit(algorithm: Algorithm) -> None:
    _, streams = random_streams()
    batch = credit(algorithm, groups(), streams).batch
    back = torch.cat([torch.arange(8, 12), torch.arange(4, 8), torch.arange(4)])
    chosen = {f.name: getattr(streams, f.name)[back] for f in fields(Streams)}
    reordered = credit(algorithm, groups()[::-1], Streams(**chosen)).batch
    for name in ("advantages", "token_advantages", "token_weights", "regularizer_weight", "divergence_weight"):
        assert torch.allclose(getattr(reordered, name), getattr(batch, name)[back], atol=1e-6), name
    assert torch.equal(reordered.loss_mask, batch.loss_mask[back])


def gradient_of_constant_rewards(algorithm: Algorithm, reward: float) -> Tensor:
    policy, streams = random_streams()
    same = groups(tuple([reward] * 4 for _ in LENGTHS))
    batch = credited(algorithm, same, policy, streams, max_tokens=100)  # far enough for length penalties to be 0
    batch = replace(batch, divergence_weight=torch.zeros_like(batch.divergence_weight))
    algorithm = replace(algorithm, regularizers=())
    return loss_and_gradient(algorithm, batch, policy, Totals.of(batch))[1]


@every([a for a in ENTRIES if not a.separates_equal_rewards])
@pytest.mark.parametrize("reward", [0.0, 1.0, 1.2, 0.1 + 0.2])
def test_constant_rewards_give_zero_gradient(algorithm: Algorithm, reward: float) -> None:
    """Nothing to compare, nothing to learn: exactly, not nearly. What pulls whatever is paid is left out."""
    assert gradient_of_constant_rewards(algorithm, reward).abs().max() == 0


@every([a for a in ENTRIES if a.separates_equal_rewards])
def test_a_part_that_says_it_separates_equal_rewards_does(algorithm: Algorithm) -> None:
    assert max(float(gradient_of_constant_rewards(algorithm, reward).abs().max()) for reward in (0.0, 1.0)) > 0


@every([a for a in ENTRIES if not a.stops_gradients])
def test_gradient_matches_finite_differences(algorithm: Algorithm) -> None:
    policy, streams = random_streams()
    batch = credited(algorithm, groups(), policy, streams)
    totals = Totals.of(batch)
    _, gradient = loss_and_gradient(algorithm, batch, policy, totals)
    step = 1e-6
    for row, token in [(0, 0), (1, 4), (3, 2), (6, 5), (8, 6), (11, 1)]:
        bump = torch.zeros_like(policy)
        bump[row, token] = step
        up = algorithm.loss(PolicyOutputs(logprobs=policy + bump), batch, totals).loss
        down = algorithm.loss(PolicyOutputs(logprobs=policy - bump), batch, totals).loss
        size = max(1.0, float(gradient.abs().max()))
        assert float((up - down) / (2 * step)) == pytest.approx(float(gradient[row, token]), abs=1e-7 * size)


@every([a for a in ENTRIES if not a.couplings])
def test_on_policy_gradient_is_the_policy_gradient(algorithm: Algorithm) -> None:
    """Without old log-probabilities the ratio is 1 in value; its gradient is that of −weight · A · log π."""
    policy, streams = random_streams()
    batch = replace(credit(algorithm, groups(), streams).batch, streams=Streams())
    _, gradient = loss_and_gradient(algorithm, batch, policy, Totals.of(batch))
    signs = -torch.sign(batch.token_advantages)
    inside = batch.loss_mask & (batch.token_weights > 0)
    assert torch.equal(torch.sign(gradient)[inside], signs[inside].double())
    assert gradient[~batch.loss_mask].abs().max() == 0


@every([a for a in ENTRIES if a.couplings])
def test_couplings_enter_with_their_exact_value_and_gradient(algorithm: Algorithm) -> None:
    """Summed over micro-batches that each hold one row: what differentiating the coupling itself gives."""
    policy, streams = random_streams()
    batch = credited(algorithm, groups(), policy, streams)
    totals = Totals.of(batch)
    only = replace(algorithm, surrogate=ALGORITHMS["disco"].surrogate)
    batch = replace(batch, divergence_weight=torch.zeros_like(batch.divergence_weight))
    rows = torch.arange(12).split(1)
    shares = [loss_and_gradient(only, batch.select(row), policy[row], totals) for row in rows]
    leaf = policy.clone().requires_grad_()
    value = torch.stack([coupling(leaf, batch, totals) for coupling in algorithm.couplings]).sum()
    (expected,) = torch.autograd.grad(value, leaf)
    assert float(sum((s[0] for s in shares), torch.zeros(()))) == pytest.approx(float(value.detach()), abs=1e-9)
    assert torch.allclose(torch.cat([s[1] for s in shares]), expected, atol=1e-12)
