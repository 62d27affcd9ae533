"""What differs between model architectures, and the table of those mmrl knows.

To add a family: one file with its functions, a `Family` value and a line in `FAMILIES` below; the exactness tests then
run over it by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from mmrl.errors import ModelError
from mmrl.policy.qwen2_5_vl import (
    encode_vision,
    language_model,
    prepare,
    prompt_positions,
    spoken_size,
    token_embedding,
    vision_parts,
)
from mmrl.types import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture line. Every function is pure but `prepare`, which is called once after loading."""

    name: str
    model_types: tuple[str, ...]  # `model_type` of the config files it serves
    prompt_positions: Callable[[Prompt, Any], Int[Tensor, "3 P"]]  # (prompt, config) → rotary positions
    # → features [K, N, D], item after item. Level 0 goes into the embeddings, level k is added to the hidden states
    # after decoder layer k − 1 (DeepStack, arXiv:2406.04334); K = 1 where a family has no deeper levels.
    encode_vision: Callable[[nn.Module, Tensor, Sequence[tuple[int, int, int]]], Tensor]
    language_model: Callable[[nn.Module], nn.Module]  # the decoder without its head
    token_embedding: Callable[[nn.Module], nn.Module]
    spoken_size: Callable[
        [tuple[int, int, int], Any], tuple[float, float]
    ]  # (grid, config) → (width, height) it speaks
    vision_parts: Callable[[nn.Module], dict[str, tuple[nn.Module, ...]]]  # part name → modules, for freezing
    prepare: Callable[[nn.Module], None]  # exact but faster submodules in place of slow ones


QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    prompt_positions=prompt_positions,
    encode_vision=encode_vision,
    language_model=language_model,
    token_embedding=token_embedding,
    spoken_size=spoken_size,
    vision_parts=vision_parts,
    prepare=prepare,
)

FAMILIES: dict[str, Family] = {"qwen2_5_vl": QWEN2_5_VL}


def family_of(model_type: str, *, where: str) -> Family:
    """The family that serves a config's `model_type`; ModelError names those that exist."""
    for family in FAMILIES.values():
        if model_type in family.model_types:
            return family
    known = ", ".join(t for f in FAMILIES.values() for t in f.model_types)
    raise ModelError(
        f"{where}: model_type {model_type!r} belongs to no family mmrl knows ({known}). "
        "Choose another model, or add a family (README: how to add a model family)."
    )
