"""For every family and kind of prompt: packed = repeated = the plain Hugging Face model = what the engine says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.batch import PolicyOutputs
from mmrl.policy.families import FAMILIES
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.packed import pack, split_groups
from mmrl.policy.policy import Policy
from mmrl.policy.repeated import repeated_outputs
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.tensors import pad_rows
from mmrl.types import Prompt, RolloutGroup
from tests.policy.exactness import assert_equal_gradients, gradients, packed_outputs
from tests.policy.prompts import groups_of, kinds, prompts_of

CASES = [(family.name, kind) for family in FAMILIES.values() for kind in kinds(family.media)]


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


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.parametrize(
    ("budget", "head_chunk"),
    [
        pytest.param(100_000, 100_000, marks=pytest.mark.slow),
        (60, 7),
        pytest.param(1, 1000, marks=pytest.mark.slow),
    ],
    ids=str,
)
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


def test_each_distinct_picture_is_encoded_once(family_models: dict[str, LoadedModel]) -> None:
    model = family_models["qwen2_5_vl"]
    groups = groups_of("mixed", model)  # the first and last prompt show the same picture
    packed = pack(split_groups(groups, 1), model.policy.family, model.policy.config, pad_id=0)
    shown = [item for g in groups if g.prompt.vision is not None for item in g.prompt.vision.items()]
    distinct = {item.digest for item in shown}
    assert len(distinct) < len(shown)
    assert sorted(item.digest for item in packed.media) == sorted(distinct)


def test_prompt_and_last_tokens_are_computed_once(family_models: dict[str, LoadedModel]) -> None:
    """Language tokens of a group: P + Σ (C_i − 1), the bound for a shared prompt."""
    model = family_models["qwen2_5_vl"]
    group = groups_of("image", model)[0]
    parts = split_groups([group], 100_000)
    packed = pack(parts, model.policy.family, model.policy.config, pad_id=0)
    assert packed.tokens == len(group.prompt.token_ids) + sum(len(r.token_ids) - 1 for r in group.rollouts)


@pytest.mark.parametrize("budget", [1, 60, 130, 100_000])
def test_splitting_keeps_every_rollout_once_and_within_the_budget(
    budget: int, family_models: dict[str, LoadedModel]
) -> None:
    model = family_models["qwen2_5_vl"]
    groups = groups_of("mixed", model)
    parts = split_groups(groups, budget)
    assert sorted(row for part in parts for row in part.rows) == list(range(16))
    assert all(part.tokens <= budget or len(part.branches) == 1 for part in parts)


@pytest.mark.parametrize("family", [name for name in FAMILIES if FAMILIES[name].packs])
def test_a_dense_mask_gives_the_same(family: str, family_models: dict[str, LoadedModel], reference: Any) -> None:
    """The other kernel that runs anywhere; how all of them compare is in test_attention.py."""
    policy = family_models[family].policy
    groups, repeated, expected = reference(family, "mixed")
    usual, policy.kernel = policy.kernel, "sdpa"
    try:
        found = packed_outputs(policy, groups, budget=60, head_chunk=100)
    finally:
        policy.kernel = usual
    assert torch.allclose(found.logprobs, repeated.logprobs, atol=1e-5)
    assert_equal_gradients(gradients(policy, found), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_shared_by_micro_batches_gives_the_same_gradients(
    family: str, family_folders: dict[str, Path]
) -> None:
    """Through the backend: encoded once, the sum of its gradients at all levels carried through the tower."""
    model = load_model(str(family_folders[family]))
    groups = groups_of("mixed", model)
    repeated = repeated_outputs(model.policy, groups).logprobs
    weights = torch.randn(repeated.shape, generator=torch.Generator().manual_seed(0))
    (repeated * weights).sum().backward()
    expected = {name: p.grad.clone() for name, p in model.policy.named_parameters() if p.grad is not None}
    model.policy.zero_grad()

    backend = TorchBackend(model, OptimizerSettings(learning_rate=1.0, steps=1), micro_batch_tokens=40)
    passes = backend.micro_batches(groups)
    assert len(passes) > len(groups)
    for parts in passes:
        outputs, packed = backend.forward(parts)
        backend.backward((outputs.logprobs * weights[packed.rows, : outputs.logprobs.shape[1]]).sum())
    owed = model.policy.features.end_update()
    assert owed is not None
    owed.backward()
    found = {name: p.grad.clone() for name, p in model.policy.named_parameters() if p.grad is not None}
    assert_equal_gradients(found, expected)
