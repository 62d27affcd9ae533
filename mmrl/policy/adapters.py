"""Low-rank adapters (LoRA, arXiv:2106.09685): small trained matrices beside frozen ones, by peft.

    W x  →  W x + (alpha / rank) · B A x        A random, B zero: at first the policy is the model it began as

DoRA (arXiv:2402.09353) also learns each row's length m, at first that of W:  m · (W + (alpha / rank) B A) / ‖…‖.

Adapters sit inside the policy's modules, so that rollouts and every pass use them without knowing. Switched off, the
policy is its own start: a reference without a second copy (`algorithms/reference.py`). A saved model holds the merged
weights in plain Hugging Face layout, and beside them `adapter/` in peft's; neither is ever merged into the live
policy, so nothing is applied twice. There is no dropout: by chance, the old, new and reference log-probabilities of a
token would differ.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmrl.errors import ConfigError
from mmrl.policy.policy import Policy

NAME = "default"  # peft's word for the only adapter
FOLDER = "adapter"


def add_adapters(
    policy: Policy,
    *,
    rank: int,
    alpha: float,
    targets: Sequence[str],
    parts: Sequence[str],
    seed: int,
    magnitude: bool = False,
) -> None:
    """Put an adapter beside every linear layer of `parts` whose last name is in `targets`; freeze all else.

    `targets` empty: every linear layer of the parts, the head apart. Adapters are float32 whatever the model is, since
    bfloat16 would round small updates away. `magnitude`: DoRA (arXiv:2402.09353), which learns the length of each row
    of the weight apart from its direction. Raises ConfigError where nothing is found.
    """
    from peft import LoraConfig, inject_adapter_in_model

    wanted = {module for part in parts for module in policy.family.vision_parts(policy.model)[part]}
    inside = {inner for module in wanted for inner in module.modules() if isinstance(inner, nn.Linear)}
    head = policy.model.get_output_embeddings()  # type: ignore[operator]
    linear = {name: module for name, module in policy.model.named_modules() if module in inside and module is not head}
    names = [name for name in linear if not targets or name.rpartition(".")[2] in targets]
    missing = sorted(set(targets) - {name.rpartition(".")[2] for name in linear})
    if missing or not names:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise ConfigError(
            f"train.lora.targets: no linear layer of {', '.join(parts)} is named {missing}. Known: {known}."
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        bias="none",
        target_modules=names,
        use_dora=magnitude,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, policy.model)
    for name, parameter in policy.model.named_parameters():
        own = is_adapter(name)
        parameter.requires_grad_(own)
        if own:
            parameter.data = parameter.data.float()


@torch.no_grad()
def begin_magnitude(model: nn.Module, name: str, weight: Tensor) -> None:
    """Give DoRA's lengths of the rows of this weight the value they begin with: those of the weight itself.

    `name`: the weight's, in the model with adapters. Nothing where it has no such lengths.
    """
    owner, _, leaf = name.rpartition(".base_layer.")
    layer = dict(_layers(model)).get(owner) if leaf == "weight" else None
    if layer is not None and layer.use_dora[NAME]:
        layer.lora_magnitude_vector[NAME].weight.copy_(torch.linalg.norm(weight, dim=1))


def has_adapters(model: nn.Module) -> bool:
    """Whether adapters were added to the model."""
    return next(_layers(model), None) is not None


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """While entered, the model computes what it did before adapters were added."""
    layers = [layer for _, layer in _layers(model)]
    training = [(p, p.requires_grad) for layer in layers for p in layer.parameters()]  # switching on sets them all
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, required in training:
            parameter.requires_grad_(required)


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' own parameters by name; empty without adapters."""
    return {name: value.detach() for name, value in model.named_parameters() if is_adapter(name)}


@torch.no_grad()
def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take the values of `adapter_state` of a model with the same adapters."""
    own = adapter_state(model)
    if own.keys() != state.keys():
        raise ConfigError(
            "the checkpoint's adapters are not those of train.lora (other targets, parts, or none). Resume with the "
            "settings the run began with."
        )
    for name, value in own.items():
        value.copy_(state[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """One parameter of the model as it would be without adapters."""

    name: str
    sources: tuple[nn.Parameter, ...]  # what it is computed from
    value: Callable[[], Tensor]  # W + (alpha / rank) · B A, or W itself where no adapter is


def merging(model: nn.Module) -> Iterator[Merging]:
    """Every parameter of the model without its adapters; nothing is computed before `value` is called."""
    layers = dict(_layers(model))
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            continue
        owner, _, leaf = name.rpartition(".")
        layer = layers.get(owner.removesuffix(".base_layer"))
        public = name.replace(".base_layer.", ".")
        if layer is None and leaf == "weight" and hasattr(parameter, "quant_state"):
            yield Merging(name=public, sources=(parameter,), value=partial(base_weight, model.get_submodule(owner)))
            continue
        if layer is None or leaf != "weight":
            yield Merging(name=public, sources=(parameter,), value=parameter.detach)
            continue
        own = tuple(value for inner, value in layer.named_parameters() if is_adapter(f".{inner}"))
        yield Merging(name=public, sources=(parameter, *own), value=partial(_merged, layer))


@torch.no_grad()
def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the model's parameters as it would have them without adapters."""
    for parameter in merging(model):
        yield parameter.name, parameter.value()


def base_weight(layer: Any) -> Tensor:
    """The weight of a layer below an adapter, 4-bit ones written out."""
    weight: Any = layer.weight
    state = getattr(weight, "quant_state", None)
    if state is None:
        whole: Tensor = weight.detach()
        return whole
    from bitsandbytes.functional import dequantize_4bit

    plain: Tensor = dequantize_4bit(weight.data, state)
    return plain


@torch.no_grad()
def _merged(layer: Any) -> Tensor:
    """The layer's weight with its adapter's: exactly what the layer multiplies with, in float32 before rounding."""
    plain = base_weight(layer.get_base_layer())
    merged = plain.float() + layer.get_delta_weight(NAME).float()
    if layer.use_dora[NAME]:
        length = layer.lora_magnitude_vector[NAME].weight.float()
        merged = merged * (length / torch.linalg.norm(merged, dim=1))[:, None]
    rounded: Tensor = merged.to(plain.dtype)
    return rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedWeights:
    """What a saved model is made of."""

    model: Mapping[str, Tensor]  # as it would be without adapters; tied parameters under all their names
    adapters: Mapping[str, Tensor]  # the adapters' own parameters; empty without any


def weights_to_save(model: nn.Module) -> SavedWeights:
    """The merged model's tensors and the adapters'. Those that are not merged are the live ones, not copies."""
    state = model.state_dict()
    if not has_adapters(model) and not is_quantized(model):
        return SavedWeights(model=state, adapters={})
    merged = dict(merged_weights(model))
    merged |= {name: value for name, value in model.named_buffers() if name in state}
    for name, value in state.items():  # parameters that are tied appear under all their names
        if not is_adapter(name) and ".weight." not in name:  # behind a 4-bit weight: what it is written out by
            merged.setdefault(name.replace(".base_layer.", "."), value)
    return SavedWeights(model=merged, adapters=adapter_state(model))


def copied_weights(weights: SavedWeights) -> SavedWeights:
    """The same in memory of their own, on the processor. What was one tensor under two names still is."""
    copies: dict[tuple[int, int], Tensor] = {}

    def copy(value: Tensor) -> Tensor:
        key = (value.data_ptr(), value.numel())
        if key not in copies:
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]

    return SavedWeights(
        model={name: copy(value) for name, value in weights.model.items()},
        adapters={name: copy(value) for name, value in weights.adapters.items()},
    )


def save_weights(model: nn.Module, folder: Path, weights: SavedWeights | None = None) -> None:
    """The merged model in Hugging Face layout and, where there are adapters, those in peft's layout beside it.

    `weights`: earlier ones of this model, from `weights_to_save`; None: the present ones.
    """
    weights = weights or weights_to_save(model)
    plain: Any = model
    if is_quantized(model):
        _save_written_out(plain, folder, weights.model)
    else:
        plain.save_pretrained(folder, state_dict=dict(weights.model))
    if not weights.adapters:
        return
    from peft import LoraConfig

    beside = folder / FOLDER
    beside.mkdir()
    _, layer = next(_layers(model))
    config = LoraConfig(
        r=layer.r[NAME],
        lora_alpha=layer.lora_alpha[NAME],
        lora_dropout=0.0,
        bias="none",
        target_modules=[name for name, _ in _layers(model)],
        use_dora=layer.use_dora[NAME],
        inference_mode=True,
    )
    config.save_pretrained(str(beside))
    tensors = {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": value.contiguous()
        for name, value in weights.adapters.items()
    }
    save_file(tensors, beside / "adapter_model.safetensors", metadata={"format": "pt"})


def is_quantized(model: nn.Module) -> bool:
    """Whether some of its weights are 4-bit."""
    return any(hasattr(parameter, "quant_state") for parameter in model.parameters())


def _save_written_out(model: Any, folder: Path, weights: Mapping[str, Tensor]) -> None:
    """A 4-bit model as the plain one it stands for: transformers itself would save it in 4 bits."""
    from huggingface_hub import save_torch_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.config)
    del config.quantization_config
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    save_torch_state_dict({name: value.contiguous() for name, value in weights.items()}, folder)


def _layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    if "peft" not in sys.modules:  # slow to import, and who has not imported it has no adapters
        return iter(())
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def is_adapter(name: str) -> bool:
    """Whether a parameter of that name belongs to an adapter."""
    return ".lora_" in name
