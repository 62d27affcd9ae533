"""Qwen2-VL: positions, vision tower, coordinates. arXiv:2409.12191.

The time axis of a clip counts its grid times: 0, 1, 2, … whatever the sampling rate.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers.models.qwen2_vl import modeling_qwen2_vl as hf

from mmrl.policy.coordinates import thousandths
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
    merge = merge_size(config)
    grids = prompt.vision.grids if prompt.vision is not None else ()
    runs = [
        Run(first=first, times=tuple(range(t)), height=h // merge, width=w // merge)
        for (first, _), (t, h, w) in zip(prompt.media_slots, grids, strict=True)
    ]
    return grid_positions(len(prompt.token_ids), runs)


def prepare(model: nn.Module) -> None:
    """Replace two slow pieces of the tower by exact faster ones."""
    quicken(model, _PatchEmbed, _Attention, _Norm)


class _PatchEmbed(LinearPatchEmbed, hf.PatchEmbed):
    pass


class _Attention(BatchedAttention, hf.VisionAttention):
    pass


class _Norm(RmsNorm, hf.Qwen2VLRMSNorm):
    pass


QWEN2_VL = Family(
    name="qwen2_vl",
    model_types=("qwen2_vl",),
    packs=True,
    media=("image", "video"),
    coordinates="0-1000",
    prompt_positions=prompt_positions,
    encode_vision=encode_vision,
    language_model=language_model,
    token_embedding=token_embedding,
    merge_size=merge_size,
    never_sampled=never_sampled,
    cut=cut,
    spoken_size=thousandths,
    vision_parts=vision_parts,
    prepare=prepare,
)
