"""Qwen2.5-VL: positions, vision tower, coordinates. arXiv:2502.13923.

The time axis of a clip counts real time: `tokens_per_second` × the seconds between two grid times.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as hf

from mmrl.policy.coordinates import resized_pixels
from mmrl.policy.family import Family
from mmrl.policy.grid_positions import Run, grid_positions
from mmrl.policy.qwen_tower import (
    BatchedAttention,
    LinearPatchEmbed,
    cut,
    encode_vision,
    language_model,
    merge_size,
    never_sampled,
    quicken,
    token_embedding,
    vision_parts,
)
from mmrl.policy.rms_norm import RmsNorm
from mmrl.types import Prompt


def prompt_positions(prompt: Prompt, config: Any) -> Int[Tensor, "3 P"]:
    """Rotary positions (time, height, width) of a prompt's tokens."""
    vision = prompt.vision
    if vision is None:
        return grid_positions(len(prompt.token_ids), ())
    merge, per_second = merge_size(config), config.vision_config.tokens_per_second
    runs = [
        Run(
            first=first,
            times=tuple(math.floor(k * (_single(seconds) * per_second)) for k in range(t)),
            height=h // merge,
            width=w // merge,
        )
        for (first, _), (t, h, w), seconds in zip(
            prompt.media_slots, vision.grids, vision.seconds_per_grid, strict=True
        )
    ]
    return grid_positions(len(prompt.token_ids), runs)


def _single(seconds: float) -> float:
    """As single precision holds it: processors hand the time on as a float32 tensor, and where k grid times make a
    whole number of positions, the floor depends on the last bit. Order and precision are those of vLLM 0.32."""
    return float(torch.tensor(seconds, dtype=torch.float32))


def prepare(model: nn.Module) -> None:
    """Replace two slow pieces of the tower by exact faster ones."""
    quicken(model, _PatchEmbed, _Attention, _Norm)


class _PatchEmbed(LinearPatchEmbed, hf.Qwen2_5_VisionPatchEmbed):
    pass


class _Attention(BatchedAttention, hf.Qwen2_5_VLVisionAttention):
    pass


class _Norm(RmsNorm, hf.Qwen2_5_VLRMSNorm):
    pass


QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    packs=True,
    media=("image", "video"),
    coordinates="pixels of the resized picture",
    prompt_positions=prompt_positions,
    encode_vision=encode_vision,
    language_model=language_model,
    token_embedding=token_embedding,
    merge_size=merge_size,
    never_sampled=never_sampled,
    cut=cut,
    spoken_size=resized_pixels,
    vision_parts=vision_parts,
    prepare=prepare,
)
