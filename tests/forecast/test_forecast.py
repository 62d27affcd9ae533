"""What is predicted from a config is what the real thing holds, to the byte, where shapes decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmrl import build
from mmrl.algorithms.build import build_algorithm
from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, ModelError
from mmrl.forecast.device import GPUS, gpu
from mmrl.forecast.predict import Asked, predict
from mmrl.forecast.probe import Depth, depths, extrapolated
from mmrl.policy.published import PUBLISHED
from mmrl.policy.skeleton import architecture, skeleton
from mmrl.policy.tiny import save_tiny_model
from tests import toy
from tests.policy.prompts import Image, prompt_of

ROOT = Path(__file__).parents[2]
# Parameters that the hub states for these repositories' weights.
STATED = {
    "Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600,
    "Qwen/Qwen2-VL-7B-Instruct": 8_291_375_616,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
}


def config_of(folder: Path, *overrides: str, **sections: Any) -> Config:
    """GRPO on a tiny model, without data."""
    path = folder / "config.yaml"
    whole = {
        "run": {"name": "planned", "folder": str(folder)},
        "model": {"tiny": {"family": "qwen2_5_vl"}},
        "data": {"recipe": "digits"},
        "rewards": {"default": [{"name": "choice"}]},
        "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 32},
        **sections,
    }
    path.write_text(yaml.safe_dump(whole))
    return load_config(path, overrides)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "2B" in name else [pytest.mark.slow]) for name in PUBLISHED]
)
def test_published_models_have_the_parameters_that_the_hub_states(name: str) -> None:
    policy = skeleton(architecture(name), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in policy.parameters()) == STATED[name]
    assert {parameter.device.type for parameter in policy.parameters()} == {"meta"}


def test_a_model_whose_sizes_are_unknown_says_what_to_give() -> None:
    with pytest.raises(ModelError, match=r"Fetch its config\.json alone .* --model-config"):
        architecture("Someone/Unknown-VL-9B")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.freeze=[vision, projector]",),
        ("train.lora={rank: 4}",),
        ("backend.dtype=bfloat16",),
        ("backend.dtype=bfloat16", "train.lora={rank: 4, parts: [language, vision]}"),
        ("algorithm=grpo_care",),
        ("algorithm=grpo_care", "backend.dtype=bfloat16"),
    ],
    ids=" ".join,
)
def test_what_is_always_there_is_the_real_tensors_bytes(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """Weights, masters, AdamW's memory after an update, and the reference's copies: equal, not close."""
    config = config_of(tmp_path, *overrides)
    forecast = predict(config, Asked(probe=False, text_tokens=20, visual_tokens=4))
    assert config.model.tiny is not None
    save_tiny_model(tmp_path / "model", **config.model.tiny.model_dump())
    model = build.load_policy(config, str(tmp_path / "model"), to_train=True)
    build.add_configured_adapters(config, model)
    backend = build.build_backend(
        config,
        model,
        steps=10,
        learning_rate=1e-4,
        warmup_steps=0,
        schedule="constant",
        algorithm=build_algorithm(config.algorithm),
    )
    group = toy.random_group(prompt_of("one", [Image(2, 2)], model), size=2, seed=0)
    backend.begin_step()
    for parts in backend.micro_batches([group]):
        out, _ = backend.forward(parts)
        backend.backward(out.logprobs.sum())
    backend.optimizer_step()
    state = backend.state()

    def held(value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return value.nbytes if value.dim() else 0  # without AdamW's counts
        return sum(map(held, value.values())) if isinstance(value, dict) else 0

    found = {part.name: part.bytes for part in forecast.memory.parts if part.exact and part.phase == "always"}
    assert found.pop("weights") == sum(parameter.nbytes for parameter in model.policy.parameters())
    assert found.pop("AdamW's memory") == held(state["moments"])
    assert found.pop("float32 masters", 0) == held(state["masters"])
    copies = {name: held(values) for name, values in state["copies"].items()}
    if config.backend.dtype == "float32":
        copies.pop("precise", None)  # the very tensors of the reference
    assert {name.split("(")[1][:-1]: size for name, size in found.items()} == copies


def test_times_grow_with_the_layers_that_were_not_tried() -> None:
    """By hand: 1 s at (1, 1), 0.2 s a layer, 0.5 s a block: 1 + 9 · 0.2 + 3 · 0.5."""
    tried = {
        Depth(layers=1, blocks=1): {"update": 1.0},
        Depth(layers=3, blocks=1): {"update": 1.4},
        Depth(layers=1, blocks=2): {"update": 1.5},
    }
    assert extrapolated(tried, layers=10, blocks=4)["update"] == pytest.approx(4.3)
    assert depths(1, 1) == [Depth(layers=1, blocks=1)]


def test_an_unknown_gpu_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown GPU 'h1000'\. Did you mean 'h100'\?"):
        gpu("h1000")
    assert gpu("H100", memory_gib=10).memory == 10 * 2**30
    assert all(device.cuda and device.rate > 1e14 for device in GPUS.values())
