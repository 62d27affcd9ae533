"""The sizes of a tiny model, and what a family makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

INITIALIZER_RANGE = 0.06  # wider than the published 0.02, which suits hidden sizes in the thousands


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """Sizes. `hidden_size / heads` must be at least 32: vLLM's CPU attention has no smaller heads."""

    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    key_value_heads: int = 2
    vision_depth: int = 2
    vision_hidden_size: int = 128
    initializer_range: float = INITIALIZER_RANGE  # of the language model's random weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyModel:
    """What is needed to make one."""

    config: Any  # Hugging Face config
    build: Callable[[Any], nn.Module]  # config → model with random weights
    processor: Any  # tokenizer, picture and video processors, chat template
