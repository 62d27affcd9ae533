"""For every family and kind of prompt: packed = repeated = the plain Hugging Face model = what the engine says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mmrl.batch import PolicyOutputs
from mmrl.policy.families import FAMILIES
from mmrl.policy.load import LoadedModel
from mmrl.policy.packed import micro_batches, pack, split_groups
from mmrl.policy.policy import Policy
from mmrl.policy.repeated import repeated_outputs
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.tensors import pad_rows
from mmrl.types import Prompt, RolloutGroup
from tests.policy.prompts import groups_of, kinds, prompts_of

CASES = [(family.name, kind) for family in FAMILIES.values() for kind in kinds(family.media)]


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
        out = policy(packed, entropy=True, head_chunk=head_chunk)
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


@pytest.fixture(scope="session")
def reference(family_models: dict[str, LoadedModel]) -> Any:
    """(family, kind) → groups, repeated outputs and their gradients, computed once."""

    @cache
    def of(family: str, kind: str) -> tuple[list[RolloutGroup], PolicyOutputs, dict[str, Tensor]]:
        policy = family_models[family].policy
        groups = groups_of(kind, family_models[family])
        outputs = repeated_outputs(policy, groups)
        return groups, outputs, gradients(policy, outputs)

    return of


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Within 1e-5 of each parameter's; those that are 0 (a bias of keys shifts all scores alike) hold rounding only."""
    assert found.keys() == expected.keys()
    whole = float(torch.stack([g.norm() for g in expected.values()]).norm())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()) + 1e-8 * whole, name


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.parametrize(("budget", "head_chunk"), [(100_000, 100_000), (60, 7), (1, 1000)], ids=str)
def test_the_policy_s_forward_equals_repeated(
    family: str,
    kind: str,
    budget: int,
    head_chunk: int,
    family_models: dict[str, LoadedModel],
    reference: Any,
) -> None:
    """Log-probabilities and entropies within 1e-5, gradients (vision tower included) within 1e-5 of their size."""
    policy = family_models[family].policy
    groups, repeated, expected = reference(family, kind)
    packed = packed_outputs(policy, groups, budget=budget, head_chunk=head_chunk)
    found = gradients(policy, packed)
    assert torch.allclose(packed.logprobs, repeated.logprobs, atol=1e-5)
    assert torch.allclose(cast(Tensor, packed.entropy), repeated.entropy, atol=1e-5)
    in_tower = {id(p) for part in ("vision", "projector") for p in parameters(policy, part)}
    reached = {name for name, p in policy.named_parameters() if id(p) in in_tower and name in found}
    assert (kind == "text") == (not reached)
    assert_equal_gradients(found, expected)


def parameters(policy: Policy, part: str) -> list[Tensor]:
    return [p for module in policy.family.vision_parts(policy.model)[part] for p in module.parameters()]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_repeated_equals_the_hugging_face_model(
    family: str, kind: str, family_models: dict[str, LoadedModel], untouched: dict[str, Any]
) -> None:
    """Our own embedding, positions and faster tower against the model as published, given pixels and token ids."""
    model = family_models[family]
    marks = FAMILIES[family].never_sampled(model.policy.config, model.processor.tokenizer)
    for group in groups_of(kind, model, size=2):
        written = tuple(r for r in group.rollouts if not marks & set(r.token_ids))  # it would take them for slots
        with torch.no_grad():
            ours = repeated_outputs(model.policy, [RolloutGroup(prompt=group.prompt, rollouts=written)]).logprobs
        for row, rollout in zip(ours, written, strict=True):
            ids = torch.tensor([[*group.prompt.token_ids, *rollout.token_ids]])
            with torch.no_grad():
                logits = untouched[family](**hugging_face_inputs(model, group.prompt, ids)).logits
            log_probs = logits[0, len(group.prompt.token_ids) - 1 : -1].log_softmax(-1)
            chosen = log_probs.gather(-1, torch.tensor(rollout.token_ids)[:, None]).squeeze(-1)
            assert torch.allclose(row[: len(chosen)], chosen, atol=1e-5)


def hugging_face_inputs(model: LoadedModel, prompt: Prompt, ids: Tensor) -> dict[str, Any]:
    """What the model takes. It works out the positions itself where it does so rightly: not after a Qwen2 video."""
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    vision, config = prompt.vision, model.policy.config
    if vision is None:
        return inputs
    if model.policy.family.name == "lfm2_vl":
        items = vision.items()
        pad = torch.nn.utils.rnn.pad_sequence
        return inputs | {
            "pixel_values": pad([item.patches for item in items], batch_first=True),
            "pixel_attention_mask": pad([torch.ones(len(item.patches), dtype=torch.int32) for item in items], True),
            "spatial_shapes": torch.tensor([item.grid[1:] for item in items]),
        }
    inputs["mm_token_type_ids"] = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
    by_kind: dict[str, list[tuple[Tensor, tuple[int, int, int]]]] = {"image": [], "video": []}
    for item, kind in zip(vision.items(), vision.kinds, strict=True):
        by_kind[kind].append((item.patches, item.grid))
    for kind, suffix in (("image", ""), ("video", "_videos")):
        if by_kind[kind]:
            inputs[f"pixel_values{suffix}"] = torch.cat([patches for patches, _ in by_kind[kind]])
            inputs[f"{kind}_grid_thw"] = torch.tensor([grid for _, grid in by_kind[kind]])
    if "video" in vision.kinds and model.policy.family.name in ("qwen2_vl", "qwen2_5_vl"):
        start = model.policy.family.prompt_positions(prompt, config)
        following = int(start.max()) + 1 + torch.arange(ids.shape[1] - start.shape[1])
        inputs["position_ids"] = torch.cat([start, following.expand(3, -1)], dim=1)[:, None]
    return inputs


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_engine_logprobs_are_the_policy_s(family: str, kind: str, family_models: dict[str, LoadedModel]) -> None:
    model = family_models[family]
    ends = model.policy.model.generation_config.eos_token_id  # type: ignore[union-attr]
    model.policy.model.generation_config.eos_token_id = list(range(12, 448, 9))  # type: ignore[union-attr]
    engine = TransformersEngine(model.policy, model.processor.tokenizer, run_seed=0)
    model.policy.model.generation_config.eos_token_id = ends  # type: ignore[union-attr]
    groups = engine.generate(prompts_of(kind, model), Sampling(group_size=4, max_tokens=12), step=0)
    assert len({len(r.token_ids) for g in groups for r in g.rollouts}) > 2  # rows left the batch at different times
    with torch.no_grad():
        expected = repeated_outputs(model.policy, groups).logprobs
    said = pad_rows([r.policy_logprobs for g in groups for r in g.rollouts], expected.shape[1])
    assert torch.allclose(said, expected, atol=1e-4)
