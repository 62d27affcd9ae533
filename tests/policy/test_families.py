"""What every family promises beside exact numbers: parts that freeze, marks that are never sampled, checkpointing."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.policy.disagreement import disagreement
from mmrl.policy.families import FAMILIES
from mmrl.policy.family import Family
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.policy import Policy
from mmrl.policy.repeated import repeated_outputs
from mmrl.policy.tiny import TINY
from mmrl.policy.tiny_shape import TinyShape
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.types import RolloutGroup
from tests import toy
from tests.policy.exactness import assert_equal_gradients, gradients, packed_outputs
from tests.policy.prompts import KINDS, groups_of, prompts_of

PARTS = ("vision", "projector", "language")


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_cover_the_whole_model_and_do_not_overlap(family: str, family_models: dict[str, LoadedModel]) -> None:
    policy = family_models[family].policy
    parts = policy.family.vision_parts(policy.model)
    assert tuple(parts) == PARTS
    of_part = [{id(p) for module in modules for p in module.parameters()} for modules in parts.values()]
    assert set().union(*of_part) == {id(p) for p in policy.parameters()}
    assert sum(map(len, of_part)) == len(list(policy.parameters()))


@pytest.mark.parametrize("frozen", PARTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_part_gets_no_gradient_and_does_not_move(
    family: str, frozen: str, family_folders: dict[str, Path]
) -> None:
    """One update in which every parameter that learns has a gradient: the other parts move, this one does not."""
    model = load_model(str(family_folders[family]))
    policy = model.policy
    backend = TorchBackend(model, OptimizerSettings(learning_rate=1e-2, steps=1), freeze=(frozen,))
    parts = {
        name: [p for module in modules for p in module.parameters()]
        for name, modules in policy.family.vision_parts(policy.model).items()
    }
    before = {name: [p.detach().clone() for p in parameters] for name, parameters in parts.items()}
    groups = groups_of("image", model)
    for micro_batch in backend.micro_batches(groups):
        outputs, _ = backend.forward(micro_batch)
        backend.backward(outputs.logprobs.sum())
    assert all(p.grad is None for p in parts[frozen])
    backend.optimizer_step()
    moved = {
        name: any(not torch.equal(p, old) for p, old in zip(parameters, before[name], strict=True))
        for name, parameters in parts.items()
    }
    assert moved == {name: name != frozen for name in PARTS}


@pytest.mark.parametrize("family", FAMILIES)
def test_marks_of_media_are_never_sampled(family: str, family_folders: dict[str, Path]) -> None:
    """Placeholders and what encloses them, made as likely as can be: half of them push up, half down."""
    model = load_model(str(family_folders[family]))
    config, tokenizer = model.policy.config, model.processor.tokenizer
    names = {
        "lfm2_vl": ("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"),
    }.get(family, ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"))
    marks = {tokenizer.convert_tokens_to_ids(name) for name in names}
    assert marks <= model.policy.family.never_sampled(config, tokenizer)
    head: Any = model.policy.model.lm_head
    with torch.no_grad():
        for i, mark in enumerate(sorted(marks)):
            head.weight[mark] *= 50 * (-1) ** i
    engine = TransformersEngine(model.policy, tokenizer, run_seed=0)
    groups = engine.generate(prompts_of("mixed", model), Sampling(group_size=8, max_tokens=12), step=0)
    assert not marks & {t for g in groups for r in g.rollouts for t in r.token_ids}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_placeholder_in_a_completion_is_text(family: str, family_folders: dict[str, Path]) -> None:
    """Given the embedding of an ordinary token, it has that token's log-probabilities, and so has what follows it."""
    model = load_model(str(family_folders[family]))
    config = model.policy.config
    ordinary = 100
    for kind in FAMILIES[family].media:
        placeholder = getattr(config, f"{kind}_token_id")
        with torch.no_grad():
            table: Any = model.policy.family.token_embedding(model.policy.model).weight
            table[placeholder] = table[ordinary]
        [group, *_] = groups_of("image", model)
        rollouts = (toy.rollout([30, placeholder, 31, 32]), toy.rollout([30, ordinary, 31, 32], index=1))
        with torch.no_grad():
            written = RolloutGroup(prompt=group.prompt, rollouts=rollouts)
            found = packed_outputs(model.policy, [written], budget=10_000, head_chunk=100).logprobs
        assert torch.allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("kind", [pytest.param("video", marks=pytest.mark.slow), "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_layers_change_nothing(
    family: str, kind: str, family_folders: dict[str, Path], family_models: dict[str, LoadedModel]
) -> None:
    """The tower's blocks and the decoder's layers computed again in backward: outputs and gradients stay."""
    plain, model = family_models[family], load_model(str(family_folders[family]))
    model.policy.checkpoint_layers()
    model.policy.train()
    passes = {"vision": 0, "language": 0}
    for part in passes:
        modules = model.policy.family.vision_parts(model.policy.model)[part]
        layers = next(m for module in modules for m in module.modules() if isinstance(m, torch.nn.ModuleList))

        def count(*_: Any, part: str = part) -> None:
            passes[part] += 1

        layers[0].register_forward_pre_hook(count)
    groups = groups_of(kind, plain)
    expected = packed_outputs(plain.policy, groups, budget=60, head_chunk=7)
    found = packed_outputs(model.policy, groups, budget=60, head_chunk=7)
    assert torch.allclose(found.logprobs, expected.logprobs, atol=1e-6)
    forward = dict(passes)
    assert_equal_gradients(gradients(model.policy, found), gradients(plain.policy, expected))
    assert passes == {part: 2 * count for part, count in forward.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_experts_is_exact_too(kind: str) -> None:
    """Qwen3-VL with four experts of which each token takes two; routing does not depend on the layout."""
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    tiny = TINY["qwen3_vl"](TinyShape())
    parts = {name: getattr(tiny.config, name).to_dict() for name in ("text_config", "vision_config")}
    parts["text_config"] |= {
        "model_type": "qwen3_vl_moe_text",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    }
    parts["vision_config"]["model_type"] = "qwen3_vl_moe_vision"
    ids = {name: getattr(tiny.config, name) for name in ("image_token_id", "video_token_id")}
    marks = {name: getattr(tiny.config, name) for name in ("vision_start_token_id", "vision_end_token_id")}
    config = Qwen3VLMoeConfig(**parts, **ids, **marks, tie_word_embeddings=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        moe = Qwen3VLMoeForConditionalGeneration(config)
        with torch.no_grad():
            for name, parameter in moe.named_parameters():
                if name.endswith("gate.weight"):
                    parameter.normal_()  # built as zeros: every token would go to the same experts
    model = LoadedModel(policy=Policy(moe, FAMILIES["qwen3_vl"]), processor=tiny.processor)
    groups = groups_of(kind, model)
    repeated = repeated_outputs(model.policy, groups)
    expected = gradients(model.policy, repeated)
    found = packed_outputs(model.policy, groups, budget=60, head_chunk=7)
    assert torch.allclose(found.logprobs, repeated.logprobs, atol=1e-5)
    assert_equal_gradients(gradients(model.policy, found), expected)


@pytest.mark.parametrize("family", ["qwen2_vl", "lfm2_vl"])
def test_disagreement_is_the_same_packed_and_in_rows_of_their_own(family: str, family_folders: dict[str, Path]) -> None:
    """At the first token all completions have the prompt's distribution: 0. Later ones against numbers by hand."""
    model = load_model(str(family_folders[family]))
    groups = groups_of("text", model)
    groups = [
        replace(g, rollouts=tuple(replace(r, token_ids=(*r.token_ids[:1], 40, 41)) for r in g.rollouts)) for g in groups
    ]
    backend = TorchBackend(model, OptimizerSettings(learning_rate=1e-3, steps=1), micro_batch_tokens=50)
    found = backend.outputs(groups, disagreement=True).disagreement
    assert found is not None
    assert float(found[:, 0].abs().max()) < 1e-6
    rows = []
    head: Any = model.policy.model.lm_head
    handle = head.register_forward_hook(lambda _m, _i, logits: rows.append(logits[0, -3:-1].log_softmax(-1)))
    with torch.no_grad():
        repeated_outputs(model.policy, groups[:1])
    handle.remove()
    by_hand = disagreement(torch.stack(rows))  # of the second and third token
    assert torch.allclose(found[0, 1:3], by_hand, atol=1e-4)


def test_the_page_on_families_explains_every_field_and_lists_every_family() -> None:
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    assert all(f"`{field.name}`" in page for field in fields(Family))
    for family in FAMILIES.values():
        [line] = [line for line in page.splitlines() if line.startswith(f"{family.name} ")]
        way = "packed" if family.packs else "repeated"
        assert all(word in line for word in (", ".join(family.model_types), way, ", ".join(family.media)))
        assert line.endswith(family.coordinates)
