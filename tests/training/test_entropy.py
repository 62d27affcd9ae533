"""Entropies are measured in every update; they have a gradient only where a part learns them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import PolicyOutputs, Streams, Totals
from mmrl.objective.regularizer import EntropyBonus
from mmrl.policy.load import load_model
from mmrl.policy.packed import micro_batches, pack, split_groups
from tests import toy


@pytest.mark.parametrize("chunk", [4096, 3])
def test_entropies_have_a_gradient_only_where_they_are_learnt(chunk: int, tiny_folder: Path) -> None:
    policy = load_model(str(tiny_folder)).policy
    group = toy.random_group(toy.text_prompt("a"), size=3, seed=0)
    [parts] = micro_batches(split_groups([group], 1000), 1000)
    packed = pack(parts, policy.family, policy.config, pad_id=0)
    measured = policy(packed, entropy=True, head_chunk=chunk)
    learnt = policy(packed, entropy=True, learn_entropy=True, head_chunk=chunk)
    assert measured.entropy is not None
    assert learnt.entropy is not None
    assert torch.equal(measured.entropy, learnt.entropy)
    head = policy.get_parameter("model.lm_head.weight")
    (of_measured,) = torch.autograd.grad(measured.logprobs.sum() + measured.entropy.sum(), head)
    (of_learnt,) = torch.autograd.grad(learnt.logprobs.sum() + learnt.entropy.sum(), head)
    (plain,) = torch.autograd.grad(policy(packed, head_chunk=chunk).logprobs.sum(), head)
    assert torch.allclose(of_measured, plain, atol=1e-6)
    assert not torch.allclose(of_learnt, plain, atol=1e-4)


def test_the_bonus_is_the_mean_entropy_of_the_trained_tokens() -> None:
    """H = 1, 3 and 2 over tokens of rollouts of one and two: GRPO's mean of means is (1 + 2.5)/2."""
    algorithm = build_algorithm({"base": "dr_grpo", "regularizers": [{"type": "entropy_bonus", "coef": 0.1}]})
    algorithm = replace(algorithm, aggregation=ALGORITHMS["grpo"].aggregation)
    assert algorithm.learns_entropy
    assert not ALGORITHMS["papo"].learns_entropy
    batch = algorithm.credit([toy.scored_lengths("a", [1, 0], [1, 2])], streams=Streams(), max_tokens=4).batch
    entropy = torch.tensor([[1.0, 9.0], [3.0, 2.0]], requires_grad=True)
    outputs = PolicyOutputs(logprobs=torch.zeros(2, 2, requires_grad=True), entropy=entropy)
    terms = algorithm.loss(outputs, batch, Totals.of(batch))
    assert terms.regularizers == pytest.approx(-0.1 * (1 + 2.5) / 2)
    terms.loss.backward()
    assert entropy.grad is not None
    assert entropy.grad.tolist() == [pytest.approx([-0.05, 0.0]), pytest.approx([-0.025, -0.025])]
    assert EntropyBonus().coef == 0.001
