"""Real models that train in a minute on two cores: to try a recipe, and for the tests.

Architecture, processor, chat template and file layout are those of the published models; only sizes, weights (random)
and vocabulary are their own. `transformers` loads them as they are, and vLLM those of the families it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from mmrl.errors import RunError, unknown_name
from mmrl.policy.tiny_lfm2_vl import lfm2_vl
from mmrl.policy.tiny_qwen import qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_vl
from mmrl.policy.tiny_shape import TinyModel, TinyShape

DEFAULT_FAMILY = "qwen2_5_vl"

# By family.
TINY: dict[str, Callable[[TinyShape], TinyModel]] = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_5": qwen3_5,
    "lfm2_vl": lfm2_vl,
}


def tiny_config(*, family: str = DEFAULT_FAMILY, seed: int = 0, **sizes: int) -> Any:
    """The Hugging Face config of the model that `save_tiny_model` makes of the same settings."""
    return _tiny(family, sizes).config


def tiny_processor(*, family: str = DEFAULT_FAMILY, seed: int = 0, **sizes: int) -> Any:
    """And its processor."""
    return _tiny(family, sizes).processor


def _tiny(family: str, sizes: dict[str, int]) -> TinyModel:
    if family not in TINY:
        raise RunError(unknown_name("family of tiny models", family, TINY))
    return TINY[family](TinyShape(**sizes))


def save_tiny_model(
    out: Path,
    *,
    family: str = DEFAULT_FAMILY,
    hidden_size: int = 128,
    layers: int = 3,
    heads: int = 4,
    key_value_heads: int = 2,
    vision_depth: int = 2,
    vision_hidden_size: int = 128,
    seed: int = 0,
) -> int:
    """Make a tiny model and save it in Hugging Face layout; returns its number of parameters.

    Raises RunError when `out` exists (a model folder is never overwritten) and for a family there is no tiny model of.
    """
    if out.exists():
        raise RunError(f"{out} exists. A model is never overwritten: choose another folder, or remove it first.")
    if family not in TINY:
        raise RunError(unknown_name("family of tiny models", family, TINY))
    shape = TinyShape(
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        vision_depth=vision_depth,
        vision_hidden_size=vision_hidden_size,
    )
    tiny = TINY[family](shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cast(Any, tiny.build(tiny.config))
    aside = out.with_name(f".{out.name}.partial")
    model.generation_config.eos_token_id = tiny.processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = tiny.processor.tokenizer.pad_token_id
    model.save_pretrained(aside)
    tiny.processor.save_pretrained(aside)
    aside.rename(out)
    return sum(p.numel() for p in model.parameters())
