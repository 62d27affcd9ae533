"""The packed forward gives the numbers of the repeated one, and both those of the plain Hugging Face model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mmrl.batch import PolicyOutputs
from mmrl.policy.packed import micro_batches, pack, split_groups
from mmrl.policy.policy import Policy
from mmrl.policy.render import Renderer
from mmrl.policy.repeated import repeated_outputs
from mmrl.types import RolloutGroup
from tests import toy

KINDS = ("image", "several images", "text", "mixed")


def groups_of(kind: str, model: toy.LoadedModel, pictures: list[Path]) -> list[RolloutGroup]:
    """Four random completions about each of a few prompts of this kind."""
    shown: dict[str, list[list[Path]]] = {
        "image": [[pictures[0]], [pictures[1]]],
        "several images": [pictures[:2], [pictures[3], pictures[2], pictures[3]]],
        "text": [[], []],
        "mixed": [[pictures[0]], [], pictures[1:4], [pictures[0]]],
    }
    samples = [toy.choice_sample(f"{kind}-{i}", p, question="Which? " * (i + 1)) for i, p in enumerate(shown[kind])]
    renderer = Renderer(model.processor, model.policy.family, model.policy.config)
    prompts, dropped = renderer.render(samples)
    assert not dropped
    return [toy.random_group(prompt, size=4, seed=i) for i, prompt in enumerate(prompts)]


def packed_outputs(policy: Policy, groups: Sequence[RolloutGroup], *, budget: int, head_chunk: int) -> PolicyOutputs:
    """Packed log-probabilities in the order of the rollouts, whatever the split."""
    rows: list[Tensor] = []
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    width = max(len(r.token_ids) for g in groups for r in g.rollouts)
    for parts in micro_batches(split_groups(groups, budget), budget):
        packed = pack(parts, policy.family, policy.config, pad_id=0)
        out = policy(packed, entropy=True, head_chunk=head_chunk)
        pad = (0, width - out.logprobs.shape[1])
        rows.append(packed.rows)
        logprobs.append(torch.nn.functional.pad(out.logprobs, pad))
        entropies.append(torch.nn.functional.pad(out.entropy, pad))
    order = torch.argsort(torch.cat(rows))
    return PolicyOutputs(logprobs=torch.cat(logprobs)[order], entropy=torch.cat(entropies)[order])


def gradients(policy: Policy, outputs: PolicyOutputs) -> dict[str, Tensor]:
    """Of a fixed random combination of the log-probabilities and entropies, for every parameter."""
    random = torch.Generator().manual_seed(0)
    assert outputs.entropy is not None
    combined = (outputs.logprobs * torch.randn(outputs.logprobs.shape, generator=random)).sum()
    combined = combined + (outputs.entropy * torch.randn(outputs.logprobs.shape, generator=random)).sum()
    policy.zero_grad()
    combined.backward()
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("budget", "head_chunk"), [(100_000, 100_000), (150, 7), (1, 1000)], ids=str)
def test_packed_equals_repeated(
    kind: str, budget: int, head_chunk: int, tiny_model: toy.LoadedModel, pictures: list[Path]
) -> None:
    """Log-probabilities and entropies within 1e-5, gradients (vision tower included) within 1e-5 of their size."""
    policy = tiny_model.policy
    groups = groups_of(kind, tiny_model, pictures)
    repeated = repeated_outputs(policy, groups)
    expected = gradients(policy, repeated)
    packed = packed_outputs(policy, groups, budget=budget, head_chunk=head_chunk)
    found = gradients(policy, packed)
    assert repeated.entropy is not None
    assert packed.entropy is not None
    assert torch.allclose(packed.logprobs, repeated.logprobs, atol=1e-5)
    assert torch.allclose(packed.entropy, repeated.entropy, atol=1e-5)
    assert found.keys() == expected.keys()
    assert (kind == "text") == (not any(".visual." in name for name in found))
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()) + 1e-9, name


@pytest.mark.parametrize("kind", KINDS)
def test_repeated_equals_the_hugging_face_model(kind: str, tiny_folder: Path, pictures: list[Path]) -> None:
    """Our own embedding, positions and faster tower against the model as published, given pixels and token ids."""
    from transformers import AutoModelForImageTextToText

    from mmrl.policy.load import load_model

    model = load_model(str(tiny_folder))
    untouched: Any = AutoModelForImageTextToText.from_pretrained(tiny_folder)
    for group in groups_of(kind, model, pictures):
        placeholders = {model.policy.config.image_token_id, model.policy.config.video_token_id}
        written = [r for r in group.rollouts if not placeholders & set(r.token_ids)]  # it would take them for slots
        ours = repeated_outputs(model.policy, [RolloutGroup(prompt=group.prompt, rollouts=tuple(written))]).logprobs
        for row, rollout in zip(ours, written, strict=True):
            ids = torch.tensor([[*group.prompt.token_ids, *rollout.token_ids]])
            inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if group.prompt.vision is not None:
                inputs["pixel_values"] = group.prompt.vision.patches
                inputs["image_grid_thw"] = torch.tensor(group.prompt.vision.grids)
                inputs["mm_token_type_ids"] = (ids == model.policy.config.image_token_id).int()
            with torch.no_grad():
                logits = untouched(**inputs).logits[0, len(group.prompt.token_ids) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(-1, torch.tensor(rollout.token_ids)[:, None]).squeeze(-1)
            assert torch.allclose(row[: len(chosen)], chosen, atol=1e-5)


def test_each_distinct_picture_is_encoded_once(tiny_model: toy.LoadedModel, pictures: list[Path]) -> None:
    groups = groups_of("mixed", tiny_model, pictures)  # the first and last prompt show the same picture
    packed = pack(split_groups(groups, 1), tiny_model.policy.family, tiny_model.policy.config, pad_id=0)
    shown = [item for g in groups if g.prompt.vision is not None for item in g.prompt.vision.items()]
    distinct = {item.digest for item in shown}
    assert len(distinct) < len(shown)
    assert sorted(item.digest for item in packed.media) == sorted(distinct)


def test_prompt_and_last_tokens_are_computed_once(tiny_model: toy.LoadedModel, pictures: list[Path]) -> None:
    """Language tokens of a group: P + Σ (C_i − 1), the bound for a shared prompt."""
    group = groups_of("image", tiny_model, pictures)[0]
    parts = split_groups([group], 100_000)
    packed = pack(parts, tiny_model.policy.family, tiny_model.policy.config, pad_id=0)
    assert packed.tokens == len(group.prompt.token_ids) + sum(len(r.token_ids) - 1 for r in group.rollouts)


@pytest.mark.parametrize("budget", [1, 60, 130, 100_000])
def test_splitting_keeps_every_rollout_once_and_within_the_budget(
    budget: int, tiny_model: toy.LoadedModel, pictures: list[Path]
) -> None:
    groups = groups_of("mixed", tiny_model, pictures)
    parts = split_groups(groups, budget)
    assert sorted(row for part in parts for row in part.rows) == list(range(16))
    assert all(part.tokens <= budget or len(part.branches) == 1 for part in parts)


def test_a_policy_trains_with_a_frozen_tower(tiny_model: toy.LoadedModel, pictures: list[Path]) -> None:
    policy = tiny_model.policy
    for name in ("vision", "projector"):
        for module in policy.family.vision_parts(policy.model)[name]:
            module.requires_grad_(False)
    found = gradients(
        policy, packed_outputs(policy, groups_of("image", tiny_model, pictures), budget=999, head_chunk=9)
    )
    assert found
    assert not any(".visual." in name for name in found)


def test_freezing_parts_cover_the_whole_model(tiny_model: toy.LoadedModel) -> None:
    policy = tiny_model.policy
    parts = policy.family.vision_parts(policy.model)
    covered = {id(p) for modules in parts.values() for module in modules for p in module.parameters()}
    assert covered == {id(p) for p in cast(torch.nn.Module, policy).parameters()}
