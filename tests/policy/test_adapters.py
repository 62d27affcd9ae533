"""Adapters: the policy at first, only they move, off means the start, merged on disk, read by peft, exact on resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrl import build
from mmrl.algorithms.build import build_algorithm
from mmrl.algorithms.reference import AdapterOff, FrozenReference
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.torch_backend import TorchBackend
from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.errors import ConfigError
from mmrl.policy.adapters import adapter_state, adapters_off, add_adapters, has_adapters, merged_weights
from mmrl.policy.load import LoadedModel, load_model
from mmrl.policy.render import Renderer
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.training.checkpoint import checkpoints, load_trainer_state
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics, reproducible
from mmrl.types import RolloutGroup
from tests import toy

QV = ("q_proj", "v_proj")


def with_adapters(model: LoadedModel, *, moved: bool = False, **keys: Any) -> LoadedModel:
    settings: dict[str, Any] = {"rank": 4, "alpha": 8.0, "targets": QV, "parts": ("language",), "seed": 0} | keys
    add_adapters(model.policy, **settings)
    if moved:  # as training would: B is no longer zero
        random = torch.Generator().manual_seed(5)
        for value in adapter_state(model.policy.model).values():
            value.copy_(0.1 * torch.randn(value.shape, generator=random))
    return model


@pytest.fixture
def groups(tiny_model: LoadedModel, pictures: list[Path]) -> list[RolloutGroup]:
    samples = [toy.choice_sample(f"s{i}", [pictures[i]]) for i in range(2)]
    policy = tiny_model.policy
    prompts, _ = Renderer(tiny_model.processor, policy.family, policy.config).render(samples)
    return [toy.random_group(prompt, size=3, seed=i) for i, prompt in enumerate(prompts)]


def backend_of(model: LoadedModel, **keys: Any) -> TorchBackend:
    return TorchBackend(model, OptimizerSettings(learning_rate=1e-2, steps=10), **keys)


def logprobs(model: LoadedModel, groups: list[RolloutGroup], **keys: Any) -> Tensor:
    return backend_of(model, **keys).outputs(groups).logprobs


def test_at_first_the_policy_is_what_it_was_and_only_adapters_train(
    tiny_model: LoadedModel, groups: list[RolloutGroup]
) -> None:
    before = logprobs(tiny_model, groups)
    with_adapters(tiny_model)
    assert torch.equal(logprobs(tiny_model, groups), before)
    trained = {name for name, p in tiny_model.policy.model.named_parameters() if p.requires_grad}
    assert trained == set(adapter_state(tiny_model.policy.model))
    layers = tiny_model.policy.config.get_text_config().num_hidden_layers
    assert len(trained) == layers * len(QV) * 2
    assert all(".visual." not in name for name in trained)


def test_switched_off_they_leave_the_start_and_come_back_trainable(
    tiny_model: LoadedModel, groups: list[RolloutGroup]
) -> None:
    before = logprobs(tiny_model, groups)
    backend = backend_of(with_adapters(tiny_model, moved=True))
    moved = backend.outputs(groups).logprobs
    assert float((moved - before).abs().max()) > 1e-2
    with adapters_off(tiny_model.policy.model):
        assert torch.equal(backend.outputs(groups).logprobs, before)
    assert torch.equal(backend.outputs(groups).logprobs, moved)
    assert all(p.requires_grad == (".lora_" in name) for name, p in tiny_model.policy.model.named_parameters())


def test_the_reference_with_adapters_off_is_the_frozen_copy(
    tiny_model: LoadedModel, groups: list[RolloutGroup]
) -> None:
    with_adapters(tiny_model)
    copied, switched = (backend_of(tiny_model, reference=rule) for rule in (FrozenReference(), AdapterOff()))
    for value in adapter_state(tiny_model.policy.model).values():
        value.add_(0.1)
    ours = switched.outputs(groups, reference=True).logprobs
    assert torch.allclose(ours, copied.outputs(groups, reference=True).logprobs, atol=1e-6)
    assert float((ours - switched.outputs(groups).logprobs).abs().max()) > 1e-2
    assert not switched.state()["copies"]  # nothing is kept


def test_saved_weights_are_merged_and_the_adapter_lies_beside_them(
    tiny_model: LoadedModel, tiny_folder: Path, groups: list[RolloutGroup], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    with_adapters(tiny_model, moved=True, parts=("language", "vision"), targets=("q_proj", "qkv"))
    expected = logprobs(tiny_model, groups)
    tiny_model.save(tmp_path / "saved")
    merged = load_model(str(tmp_path / "saved"))
    assert not has_adapters(merged.policy.model)
    assert torch.allclose(logprobs(merged, groups), expected, atol=1e-5)
    plain: Any = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32)
    by_peft: Any = PeftModel.from_pretrained(plain, str(tmp_path / "saved" / "adapter")).merge_and_unload()
    ours = dict(merged_weights(tiny_model.policy.model))
    theirs = dict(by_peft.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(theirs[name], value, atol=1e-6) for name, value in ours.items())
    start = dict(load_model(str(tiny_folder)).policy.model.named_parameters())
    changed = {name.rpartition(".")[0].rpartition(".")[2] for name in ours if not torch.equal(ours[name], start[name])}
    assert changed == {"q_proj", "qkv"}


def test_rollouts_are_sampled_with_the_adapters(tiny_model: LoadedModel, groups: list[RolloutGroup]) -> None:
    with_adapters(tiny_model, moved=True)
    backend = backend_of(tiny_model)
    engine = TransformersEngine(tiny_model.policy, tiny_model.processor.tokenizer, run_seed=0)
    engine.load_weights(backend.weights(), version=3)
    sampled = engine.generate([g.prompt for g in groups], Sampling(group_size=2, max_tokens=6), step=0)
    ours = backend.outputs(sampled).logprobs
    for row, rollout in zip(ours, [r for g in sampled for r in g.rollouts], strict=True):
        assert row[: len(rollout.token_ids)].tolist() == pytest.approx(rollout.policy_logprobs, abs=1e-4)
    assert {r.policy_version for g in sampled for r in g.rollouts} == {3}


def test_adapters_of_a_bfloat16_model_are_float32(tiny_folder: Path) -> None:
    model = with_adapters(load_model(str(tiny_folder), dtype=torch.bfloat16), targets=())
    own = adapter_state(model.policy.model)
    assert {value.dtype for value in own.values()} == {torch.float32}
    assert not any("lm_head" in name for name in own)
    assert {value.dtype for _, value in merged_weights(model.policy.model)} == {torch.bfloat16}


def test_unknown_targets_are_named(tiny_model: LoadedModel) -> None:
    with pytest.raises(ConfigError, match=r"no linear layer of language is named \['qproj'\]. Known: .*q_proj"):
        with_adapters(tiny_model, targets=("qproj",))
    with pytest.raises(ConfigError, match="adapter_off needs adapters"):
        backend_of(tiny_model, reference=AdapterOff())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.lora={}", "train.freeze=[language]"], "train.freeze: freezes language, where train.lora puts"),
        (["algorithm={base: grpo, reference: adapter_off}"], "algorithm.reference: adapter_off needs adapters"),
        (["train.lora={rank: 0}"], "train.lora.rank"),
    ],
)
def test_a_config_that_cannot_work_is_refused(overrides: list[str], words: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "run: {name: mini}\nmodel: {tiny: {}}\ndata: {recipe: digits}\nrewards: {default: [{name: choice}]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert words in str(caught.value)


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, pictures: list[Path]) -> Callable[[str, Any], Trainer]:
    samples = [toy.choice_sample(f"s{i}", [pictures[i % 4]]) for i in range(4)]

    def trainer(name: str, algorithm: Any) -> Trainer:
        config = Config.model_validate(
            {
                "run": {"name": name, "folder": str(tmp_path), "seed": 3},
                "model": {"path": str(tiny_folder)},
                "data": {"train": "unused"},
                "rewards": {"default": [{"path": "tests.algorithms.even_reward:even"}]},
                "algorithm": algorithm,
                "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 4},
                "train": {"steps": 4, "learning_rate": 1e-2, "lora": {"rank": 4, "targets": list(QV)}},
            }
        )
        (tmp_path / name).mkdir(exist_ok=True)
        return build.build_trainer(
            config,
            run_dir=tmp_path / name,
            model=load_model(str(tiny_folder)),  # the model the run began with, on a resume as well
            train=samples,
            validation=[],
            scorer=build.build_scorer(config, samples),
            progress=SilentProgress(),
        )

    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", {"base": "grpo_care", "reference": {"every": 1}}], ids=["off", "ema"])
def test_a_resumed_run_equals_an_uninterrupted_one(algorithm: Any, make: Callable[[str, Any], Trainer]) -> None:
    straight = make("straight", algorithm)
    if algorithm == "grpo":
        assert isinstance(build_algorithm(algorithm).reference, FrozenReference)
        assert straight.backend.state()["copies"] == {}  # frozen became adapter-off
    train(straight)
    killed = make("killed", algorithm)
    train(replace(killed, settings=replace(killed.settings, steps=2)))
    [saved] = checkpoints(killed.run_dir)
    resumed = make("killed", algorithm)
    start = load_trainer_state(saved, backend=resumed.backend, sampler=resumed.sampler, memory=resumed.memory)
    train(resumed, start=start)
    rows = [[reproducible(r) for r in read_metrics(t.run_dir / "metrics.jsonl")] for t in (straight, resumed)]
    assert rows[0] == rows[1]
    assert rows[0][-1]["policy/kl_mean"] > 0
    last = [checkpoints(t.run_dir)[-1].folder for t in (straight, resumed)]
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (last[0] / name).read_bytes() == (last[1] / name).read_bytes()


def test_dora_is_the_start_at_first_and_merges_into_what_it_computes(
    tiny_model: LoadedModel, groups: list[RolloutGroup], tmp_path: Path
) -> None:
    before = logprobs(tiny_model, groups)
    with_adapters(tiny_model, magnitude=True)
    assert torch.allclose(logprobs(tiny_model, groups), before, atol=1e-5)
    assert any("magnitude" in name for name in adapter_state(tiny_model.policy.model))
    random = torch.Generator().manual_seed(5)
    for value in adapter_state(tiny_model.policy.model).values():
        value.add_(0.1 * torch.randn(value.shape, generator=random))
    moved = logprobs(tiny_model, groups)
    assert float((moved - before).abs().max()) > 1e-2
    tiny_model.save(tmp_path / "merged")
    assert torch.allclose(logprobs(load_model(str(tmp_path / "merged")), groups), moved, atol=1e-4)


@pytest.mark.slow
def test_four_bit_weights_stay_adapters_learn_and_a_plain_model_is_saved(
    tiny_folder: Path, groups: list[RolloutGroup], tmp_path: Path
) -> None:
    """QLoRA, as far as a processor goes: bitsandbytes computes it there too."""
    pytest.importorskip("bitsandbytes")
    model = load_model(str(tiny_folder), four_bit=True)
    with_adapters(model, moved=True)
    kinds = {type(module).__name__ for module in model.policy.model.modules()}
    assert "Linear4bit" in kinds
    assert not any(
        hasattr(p, "quant_state") for n, p in model.policy.model.named_parameters() if ".visual." in n or "lm_head" in n
    )
    backend = backend_of(model, reference=AdapterOff())
    reference = backend.outputs(groups, reference=True).logprobs
    before = {name: value.clone() for name, value in adapter_state(model.policy.model).items()}
    frozen = [p.clone() for p in model.policy.parameters() if not p.requires_grad]
    for parts in backend.micro_batches(groups):
        outputs, packed = backend.forward(parts)
        backend.backward(-outputs.logprobs[packed.mask].sum())
    norm, _ = backend.optimizer_step()
    assert norm > 0
    assert any(not torch.equal(before[n], v) for n, v in adapter_state(model.policy.model).items())
    assert all(
        torch.equal(a, b)
        for a, b in zip(frozen, [p for p in model.policy.parameters() if not p.requires_grad], strict=True)
    )
    assert torch.equal(backend.outputs(groups, reference=True).logprobs, reference)
    now = backend.outputs(groups).logprobs
    backend.save_model(tmp_path / "saved")
    plain = load_model(str(tmp_path / "saved"))
    assert not any(hasattr(p, "quant_state") for p in plain.policy.parameters())
    assert torch.allclose(logprobs(plain, groups), now, atol=1e-3)


def test_a_four_bit_policy_has_no_copy_to_follow(tiny_folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ConfigError, match="adapter_off"):
        backend_of(with_adapters(load_model(str(tiny_folder), four_bit=True)), reference=FrozenReference())
