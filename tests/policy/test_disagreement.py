"""TW-GRPO's token importance: by numbers worked by hand, and on a model against the plain computation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.batch import Streams
from mmrl.credit.token_weight import DisagreementWeight
from mmrl.policy.disagreement import disagreement
from mmrl.policy.policy import Policy
from mmrl.policy.repeated import repeated_outputs
from mmrl.types import RolloutGroup
from tests import toy
from tests.credit.worked import credit_input
from tests.policy.exactness import picture_groups


def test_two_rollouts_that_differ_at_one_position() -> None:
    """V = 3: [0.7, 0.2, 0.1] against [0.1, 0.2, 0.7] gives 1.023716; equal distributions give 0."""
    at_first = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    equal = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    k = disagreement(torch.stack([at_first, equal], dim=1).log())
    assert k.tolist() == pytest.approx([1.023716, 0.0], abs=1e-6)


def test_weights_go_from_one_to_alpha_within_each_group() -> None:
    """Second group: k = 2, 4, 3 over its longest rollout, so weights 1, 1.7 and 1.35."""
    first = toy.scored_lengths("a", [1, 0], [2, 2])
    second = toy.scored_lengths("b", [1, 0], [3, 1])
    k = torch.tensor([[1.023716, 0, 0], [1.023716, 0, 0], [2, 4, 3], [2, 0, 0]])
    table, context = credit_input(first, second, streams=Streams(disagreement=k))
    weights = DisagreementWeight(alpha=1.7)(torch.ones(4, 3), table, context)
    assert weights[0, :2].tolist() == pytest.approx([1.7, 1.0])
    assert weights[2].tolist() == pytest.approx([1.0, 1.7, 1.35])
    assert float(weights[3, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize(("budget", "chunk"), [(100_000, 4096), (1, 5)], ids=str)
def test_a_model_s_disagreement_is_that_of_its_distributions(
    budget: int, chunk: int, tiny_model: toy.LoadedModel, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the token budget: groups stay whole. Ended rollouts count as uniform."""
    groups = picture_groups(tiny_model, pictures)
    policy = tiny_model.policy
    original = policy.forward
    monkeypatch.setattr(policy, "forward", lambda *a, **k: original(*a, **k, head_chunk=chunk))
    backend = TorchBackend(tiny_model, OptimizerSettings(learning_rate=1e-3, steps=1), micro_batch_tokens=budget)
    found = backend.outputs(groups, disagreement=True)
    assert found.disagreement is not None
    plain = repeated_outputs(policy, groups).logprobs.detach()
    assert torch.allclose(found.logprobs, plain, atol=1e-4)
    first_row = 0
    for group in groups:
        expected = _by_definition(policy, group, plain.shape[1])
        for i, rollout in enumerate(group.rollouts):
            length = len(rollout.token_ids)
            row = found.disagreement[first_row + i]
            assert torch.allclose(row[:length], expected[:length], rtol=1e-3, atol=1e-4)
            assert row[length:].abs().max() == 0 if length < len(row) else True
        first_row += len(group.rollouts)


def _by_definition(policy: Policy, group: RolloutGroup, width: int) -> torch.Tensor:
    """Every rollout's full distributions by plain repeated forwards."""
    model: Any = policy.model
    log_probs: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, logits: torch.Tensor) -> None:
        vocabulary = logits.shape[-1]
        rows = torch.full((width, vocabulary), -math.log(vocabulary))
        known = logits[0, len(group.prompt.token_ids) - 1 : -1].detach().float().log_softmax(-1)
        rows[: len(known)] = known
        log_probs.append(rows)

    handle = model.lm_head.register_forward_hook(keep)
    repeated_outputs(policy, [group])
    handle.remove()
    return disagreement(torch.stack(log_probs))
