"""Loss and gradient equal TRL 1.16's on identical rollouts of a tiny VLM with images, fp32, within 1e-5.

TRL's side: its own `_compute_loss` over the plain Hugging Face forward, one row per completion. Ours: credit, packed
forward and `Algorithm.loss`. Compared are the loss and the gradient of every parameter, the vision tower's included.
Needs `pip install trl==1.16.0`; without it these tests are skipped.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import Need, PolicyOutputs, Streams, Totals
from mmrl.objective.aggregation import TokenMean
from mmrl.policy.policy import Policy
from mmrl.policy.repeated import repeated_outputs
from tests import toy
from tests.policy.exactness import packed_outputs, picture_groups

trl = pytest.importorskip("trl", reason="parity tests need trl 1.16")
accelerate = pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow

G, MAX_TOKENS = 4, 16
REWARDS = torch.tensor([1.2, 0.2, 0.0, 1.0, 0.0, 0.0, 1.2, 1.0])

# Entry → the entry as it is compared, and TRL's settings for it.
CASES: dict[str, tuple[Algorithm, dict[str, Any]]] = {
    "grpo": (ALGORITHMS["grpo"], {"loss_type": "grpo", "beta": 0.04}),
    "dr_grpo": (ALGORITHMS["dr_grpo"], {"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "dapo": (replace(ALGORITHMS["dapo"], shaping=()), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "token mean over one batch (TRL's bnpo)": (
        replace(ALGORITHMS["grpo"], aggregation=TokenMean(), divergence_aggregation=TokenMean()),
        {"loss_type": "bnpo", "beta": 0.04},
    ),
    "lite_ppo": (ALGORITHMS["lite_ppo"], {"loss_type": "dapo", "scale_rewards": "batch"}),
    "cispo": (ALGORITHMS["cispo"], {"loss_type": "cispo", "epsilon_high": 5.0}),
    "gspo": (
        ALGORITHMS["gspo"],
        {"loss_type": "grpo", "level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    ),
    "luspo": (
        ALGORITHMS["luspo"],
        {"loss_type": "luspo", "level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    ),
}


def trl_trainer(kind: Any, policy: Policy, outputs: PolicyOutputs, settings: dict[str, Any]) -> Any:
    """A trainer with what its loss reads, and our repeated forward's log-probabilities in place of its own."""
    trainer = object.__new__(kind)
    defaults = {
        "model": policy,
        "accelerator": accelerate.Accelerator(cpu=True),
        "args": SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        "loss_type": settings.get("loss_type"),
        "beta": settings.get("beta", 0.0),
        "epsilon_low": settings.get("epsilon_low", 0.2),
        "epsilon_high": settings.get("epsilon_high", 0.2),
        "importance_sampling_level": settings.get("level", "token"),
        "max_completion_length": MAX_TOKENS,
        "current_gradient_accumulation_steps": 1,
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
    }
    for name, value in defaults.items():
        object.__setattr__(trainer, name, value)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (outputs.logprobs, outputs.entropy, None)
    return trainer


def trl_advantages(scale: str) -> Tensor:
    """As TRL writes them: group mean, then the group's or the batch's standard deviation + 1e-4, or none."""
    grouped = REWARDS.view(-1, G)
    centred = (grouped - grouped.mean(dim=1, keepdim=True)).flatten()
    if scale == "none":
        return centred
    std = REWARDS.std() if scale == "batch" else grouped.std(dim=1).repeat_interleave(G)
    return centred / (std + 1e-4)


def gradients(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


class Case:
    """Rollouts about two pictures, an old and a reference policy near the current one."""

    def __init__(self, model: toy.LoadedModel, pictures: list[Path], *, distance: float = 0.2) -> None:
        self.policy = model.policy.train()
        self.groups = picture_groups(model, pictures)
        totals = REWARDS.view(-1, G).tolist()
        self.scored = [toy.scored(group, total) for group, total in zip(self.groups, totals, strict=True)]
        self.mask = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(r.token_ids)) for g in self.groups for r in g.rollouts], batch_first=True
        )
        random = torch.Generator().manual_seed(1)
        now = self.repeated().logprobs.detach()
        self.old = (now + distance * torch.randn(now.shape, generator=random)) * self.mask
        self.ref = (now + 0.2 * torch.randn(now.shape, generator=random)) * self.mask

    def repeated(self) -> PolicyOutputs:
        return repeated_outputs(self.policy, self.groups)

    def inputs(self, **more: Tensor) -> dict[str, Tensor]:
        ids = torch.zeros(self.mask.shape, dtype=torch.long)
        return {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1] + 1,
            "completion_ids": ids,
            "completion_mask": self.mask,
            "num_items_in_batch": self.mask.sum(),
            **more,
        }

    def ours(self, algorithm: Algorithm) -> tuple[float, dict[str, Tensor]]:
        needs_ref = Need.REF_LOGPROBS in algorithm.needs
        streams = Streams(old_logprobs=self.old, ref_logprobs=self.ref if needs_ref else None)
        batch = algorithm.credit(self.scored, streams=streams, max_tokens=MAX_TOKENS).batch
        outputs = packed_outputs(self.policy, self.groups, budget=100_000, head_chunk=100_000)
        loss = algorithm.loss(outputs, batch, Totals.of(batch)).loss
        return float(loss.detach()), gradients(self.policy, loss)


def assert_same(ours: tuple[float, dict[str, Tensor]], theirs: tuple[float, dict[str, Tensor]]) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    largest = max(float(g.abs().max()) for g in theirs[1].values())
    assert largest > 1e-4  # there is something to compare
    for name, gradient in theirs[1].items():
        assert torch.allclose(ours[1][name], gradient, atol=1e-5 * max(1.0, largest)), name


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_trl_s(name: str, tiny_model: toy.LoadedModel, pictures: list[Path]) -> None:
    algorithm, settings = CASES[name]
    # A sequence's bounds are tight: further away every rollout would be clipped.
    case = Case(tiny_model, pictures, distance=5e-4 if "level" in settings else 0.2)
    trainer = trl_trainer(trl.GRPOTrainer, case.policy, case.repeated(), settings)
    inputs = case.inputs(
        advantages=trl_advantages(settings.get("scale_rewards", "group")),
        old_per_token_logps=case.old,
        ref_per_token_logps=case.ref,
    )
    loss = trainer._compute_loss(case.policy, inputs)
    theirs = float(loss.detach()), gradients(case.policy, loss)
    assert_same(case.ours(algorithm), theirs)


def test_rloo_equals_trl_s(tiny_model: toy.LoadedModel, pictures: list[Path]) -> None:
    """The divergence paid in the reward, the other rollouts' mean as baseline, one ratio per rollout."""
    case = Case(tiny_model, pictures)
    trainer = trl_trainer(trl.RLOOTrainer, case.policy, case.repeated(), {})
    rewards = REWARDS - 0.05 * ((case.old - case.ref) * case.mask).sum(dim=1)
    grouped = rewards.view(-1, G)
    advantages = (grouped - (grouped.sum(dim=1, keepdim=True) - grouped) / (G - 1)).flatten()
    inputs = case.inputs(advantages=advantages, old_logps=(case.old * case.mask).sum(dim=1))
    loss = trainer._compute_loss(case.policy, inputs)
    theirs = float(loss.detach()), gradients(case.policy, loss)
    assert_same(case.ours(ALGORITHMS["rloo"]), theirs)
