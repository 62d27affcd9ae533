"""What exactness tests compare: outputs of the policy's forward, and gradients of all parameters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmrl.batch import PolicyOutputs
from mmrl.policy.load import LoadedModel
from mmrl.policy.packed import micro_batches, pack, split_groups
from mmrl.policy.policy import Policy
from mmrl.policy.render import Renderer
from mmrl.types import RolloutGroup
from tests import toy


def packed_outputs(policy: Policy, groups: Sequence[RolloutGroup], *, budget: int, head_chunk: int) -> PolicyOutputs:
    """The policy's log-probabilities in the order of the rollouts, whatever the split.

    A family that cannot pack gets each completion in a row of its own.
    """
    most = sys.maxsize if policy.family.packs else 1
    count = sum(len(g.rollouts) for g in groups)
    width = max(len(r.token_ids) for g in groups for r in g.rollouts)
    logprobs, entropy = torch.zeros(count, width), torch.zeros(count, width)
    for parts in micro_batches(split_groups(groups, budget, most_branches=most), budget):
        packed = pack(parts, policy.family, policy.config, pad_id=0)
        out = policy(packed, entropy=True, learn_entropy=True, head_chunk=head_chunk)
        assert out.entropy is not None
        columns = torch.arange(out.logprobs.shape[1])
        logprobs = logprobs.index_put((packed.rows[:, None], columns), out.logprobs)
        entropy = entropy.index_put((packed.rows[:, None], columns), out.entropy)
    return PolicyOutputs(logprobs=logprobs, entropy=entropy)


def gradients(policy: Policy, outputs: PolicyOutputs) -> dict[str, Tensor]:
    """Of a fixed random combination of the log-probabilities and entropies, for every parameter."""
    random = torch.Generator().manual_seed(0)
    assert outputs.entropy is not None
    combined = (outputs.logprobs * torch.randn(outputs.logprobs.shape, generator=random)).sum()
    combined = combined + (outputs.entropy * torch.randn(outputs.logprobs.shape, generator=random)).sum()
    policy.zero_grad()
    combined.backward()
    found = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Within 1e-5 of each parameter's, or of what rounding leaves where terms cancel.

    That is 1e-8 of all gradients together (a bias of keys shifts all scores alike: its gradient is 0), and 1e-7 in
    gated delta layers, whose decays sum products of many exponentials in float32.
    """
    assert found.keys() == expected.keys()
    whole = float(torch.stack([g.norm() for g in expected.values()]).norm())
    for name, gradient in expected.items():
        rounding = 1e-7 if ".linear_attn." in name else 1e-8
        assert float((found[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()) + rounding * whole, name


def picture_groups(model: LoadedModel, pictures: Sequence[Path]) -> list[RolloutGroup]:
    """Four random completions about each of two rendered pictures."""
    samples = [toy.choice_sample(f"image-{i}", [pictures[i]], question="Which? " * (i + 1)) for i in range(2)]
    prompts, dropped = Renderer(model.processor, model.policy.family, model.policy.config).render(samples)
    assert not dropped
    return [toy.random_group(prompt, size=4, seed=i) for i, prompt in enumerate(prompts)]
