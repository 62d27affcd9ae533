"""Qwen3-VL, dense and mixture of experts: positions, vision tower with deeper levels, timestamps. arXiv:2511.21631.

A clip is shown frame by frame: `<1.5 seconds>` and one run of visual tokens per grid time, each a grid of its own on
the position axes. The tower's features enter at several depths (DeepStack, arXiv:2406.04334): level 0 as embeddings,
level k added to the hidden states after decoder layer k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.qwen3_vl import modeling_qwen3_vl as hf
from transformers.models.qwen3_vl_moe import modeling_qwen3_vl_moe as hf_moe

from mmrl.policy.coordinates import thousandths
from mmrl.policy.family import Family
from mmrl.policy.grid_positions import Run, grid_positions
from mmrl.policy.qwen_tower import (
    BatchedAttention,
    LinearPatchEmbed,
    cut,
    language_model,
    merge_size,
    never_sampled,
    quicken,
    token_embedding,
    tower_output,
)
from mmrl.policy.rms_norm import RmsNorm
from mmrl.policy.spelling import ShownItem, Spelling, spell_whole
from mmrl.types import Prompt

TEMPORAL_PATCH = 2  # frames of one grid time


def prompt_positions(prompt: Prompt, config: Any) -> Int[Tensor, "3 P"]:
    """Rotary positions (time, height, width) of a prompt's tokens: every frame of a clip is a picture of its own."""
    merge = merge_size(config)
    grids = prompt.vision.grids if prompt.vision is not None else ()
    frames = [(h // merge, w // merge) for t, h, w in grids for _ in range(t)]
    runs = [
        Run(first=first, times=(0,), height=h, width=w)
        for (first, _), (h, w) in zip(prompt.media_slots, frames, strict=True)
    ]
    return grid_positions(len(prompt.token_ids), runs)


def spell(item: ShownItem) -> Spelling:
    """A picture is one run; a clip is a time and a run between vision marks for each of its grid times.

    The time is the mean of the first and the last frame of a grid time, in seconds of the file. The marks the chat
    template wrote around the whole clip go, as in the model's first processor (transformers 4.57) and in vLLM; that of
    transformers 5.19 leaves them around everything (vLLM issue 46817).
    """
    if item.kind == "image":
        return spell_whole(item)
    times, height, width = item.grid
    frames = [*item.frames, *[item.frames[-1]] * (TEMPORAL_PATCH * times - len(item.frames))]
    pairs = zip(frames[::TEMPORAL_PATCH], frames[TEMPORAL_PATCH - 1 :: TEMPORAL_PATCH], strict=True)
    seconds = [(first / item.frame_rate + last / item.frame_rate) / 2 for first, last in pairs]
    shown = f"<|vision_start|>{item.placeholder}<|vision_end|>"
    return Spelling(
        replaces=shown,
        text="".join(f"<{second:.1f} seconds>{shown}" for second in seconds),
        runs=(height * width // item.merge**2,) * times,
    )


def encode_vision(
    model: nn.Module, patches: Float[Tensor, "S F"], grids: Sequence[tuple[int, int, int]]
) -> Float[Tensor, "K N D"]:
    """Features of several pictures or clips in one call, item after item: the merger's, then each deeper level's."""
    out = tower_output(model, patches, grids)
    return torch.stack([out.pooler_output, *out.deepstack_features])


def vision_parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """What `train.freeze` names: tower without mergers, all mergers (projector), language model and head."""
    inner = cast(Any, model).model
    tower = inner.visual
    return {
        "vision": (tower.patch_embed, tower.pos_embed, tower.blocks),
        "projector": (tower.merger, tower.deepstack_merger_list),
        "language": (inner.language_model, cast(Any, model).lm_head),
    }


def prepare(model: nn.Module) -> None:
    """Replace two slow pieces of the tower by exact faster ones."""
    if isinstance(model, hf_moe.Qwen3VLMoeForConditionalGeneration):
        quicken(model, _MoePatchEmbed, _MoeAttention, _MoeNorm)
    else:
        quicken(model, _PatchEmbed, _Attention, _Norm)


class _PatchEmbed(LinearPatchEmbed, hf.Qwen3VLVisionPatchEmbed):
    pass


class _Attention(BatchedAttention, hf.Qwen3VLVisionAttention):
    pass


class _Norm(RmsNorm, hf.Qwen3VLTextRMSNorm):
    pass


class _MoePatchEmbed(LinearPatchEmbed, hf_moe.Qwen3VLMoeVisionPatchEmbed):
    pass


class _MoeAttention(BatchedAttention, hf_moe.Qwen3VLMoeVisionAttention):
    pass


class _MoeNorm(RmsNorm, hf_moe.Qwen3VLMoeTextRMSNorm):
    pass


QWEN3_VL = Family(
    name="qwen3_vl",
    model_types=("qwen3_vl", "qwen3_vl_moe"),
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
    spell=spell,
    run_per_time=True,
    spoken_size=thousandths,
    vision_parts=vision_parts,
    prepare=prepare,
)
