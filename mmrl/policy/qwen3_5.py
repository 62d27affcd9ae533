"""Qwen3.5: Qwen3-VL's pictures, clips and positions before a decoder that is mostly linear attention.

Gated delta layers (arXiv:2412.06464) carry a state from token to token, which no mask can keep a completion from
leaving to the next: this family takes the repeated path. Its tower has no deeper levels.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from transformers.models.qwen3_5 import modeling_qwen3_5 as hf

from mmrl.policy.coordinates import thousandths
from mmrl.policy.family import Family
from mmrl.policy.qwen3_vl import prompt_positions, spell
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
)
from mmrl.policy.row_cache import call_plainly


def vision_parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """What `train.freeze` names: tower without its merger, merger (projector), language model and head."""
    inner = cast(Any, model).model
    tower = inner.visual
    return {
        "vision": (tower.patch_embed, tower.pos_embed, tower.blocks),
        "projector": (tower.merger,),
        "language": (inner.language_model, cast(Any, model).lm_head),
    }


def prepare(model: nn.Module) -> None:
    """Replace two slow pieces of the tower by exact faster ones; call the decoder as Hugging Face calls it."""
    quicken(model, _PatchEmbed, _Attention)
    call_plainly(language_model(model), axes=3)


class _PatchEmbed(LinearPatchEmbed, hf.Qwen3_5VisionPatchEmbed):
    pass


class _Attention(BatchedAttention, hf.Qwen3_5VisionAttention):
    pass


QWEN3_5 = Family(
    name="qwen3_5",
    model_types=("qwen3_5",),
    packs=False,
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
