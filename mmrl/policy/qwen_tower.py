"""What the vision towers of the Qwen families share: slow pieces made fast, and how the model is put together.

transformers runs the patch embedding as a Conv3d whose stride equals its kernel, and attention as a Python loop over
pictures, frames or windows. The first is a matrix product; of the second, all stretches of equal length are one batch.
Rotations and norms (`rms_norm.py`) have their derivatives written out.
Same parameters, same names, same numbers (`tests/policy/test_exactness.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mmrl.policy.family import Grid
from mmrl.policy.rms_norm import RmsNorm


class LinearPatchEmbed(nn.Module):
    """In front of a Hugging Face patch embedding in the bases of a class: its product without the convolution."""

    proj: nn.Conv3d

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[S, F] patches → [S, D]."""
        weight = self.proj.weight
        flat = hidden_states.to(weight.dtype).view(-1, weight[0].numel())
        return F.linear(flat, weight.flatten(1), self.proj.bias)


class BatchedAttention(nn.Module):
    """In front of a Hugging Face vision attention in the bases of a class: stretches of equal length in one batch."""

    qkv: nn.Linear
    proj: nn.Linear
    num_heads: int
    scaling: float

    def forward(
        self,
        hidden_states: Tensor,
        cu_seqlens: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        max_seqlen: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """[S, D] → [S, D]; stretch i is `cu_seqlens[i]` to `cu_seqlens[i + 1]` and attends to itself."""
        assert position_embeddings is not None  # the towers always pass them
        length = hidden_states.shape[0]
        q, k, v = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1).unbind(1)
        cos, sin = (x.unsqueeze(-2).float() for x in position_embeddings)
        q, k = (_Rotated.apply(x, cos, sin) for x in (q, k))
        sizes = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
        if len(set(sizes)) == 1:
            whole: Tensor = self.proj(_attend(q, k, v, len(sizes), self.scaling).reshape(length, -1))
            return whole
        starts = cu_seqlens[:-1]
        pieces, order = [], []
        for size in sorted(set(sizes)):
            stretches = torch.tensor([i for i, s in enumerate(sizes) if s == size], device=starts.device)
            index = (starts[stretches][:, None] + torch.arange(size, device=starts.device)).flatten()
            pieces.append(_attend(q[index], k[index], v[index], len(stretches), self.scaling))
            order.append(index)
        out = torch.cat(pieces)[torch.argsort(torch.cat(order))]
        projected: Tensor = self.proj(out.reshape(length, -1))
        return projected


class _Rotated(torch.autograd.Function):
    """Rotary embedding of [S, heads, dim] by cos, sin [S, 1, dim], both halves of which are equal (arXiv:2104.09864).

    A rotation: backward turns the other way. Autograd through transformers' function makes five tensors per call.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, sin, -1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: float) -> Tensor:
    half = x.shape[-1] // 2
    single = x.float()
    out = single * cos
    out[..., :half].addcmul_(single[..., half:], sin[..., :half], value=-way)
    out[..., half:].addcmul_(single[..., :half], sin[..., :half], value=way)
    return out.to(x.dtype)


def quicken(
    model: nn.Module, patch_embed: type[nn.Module], attention: type[nn.Module], norm: type[RmsNorm] | None = None
) -> None:
    """Give the tower's patch embedding and attention modules, and every norm of the class that `norm` extends, these
    classes; parameters and their names stay.
    """
    tower = cast(Any, model).model.visual
    tower.patch_embed.__class__ = patch_embed
    for block in tower.blocks:
        block.attn.__class__ = attention
    if norm is not None:
        slow = norm.__bases__[1]
        for module in model.modules():
            if type(module) is slow:
                module.__class__ = cast(type[nn.Module], norm)


def encode_vision(
    model: nn.Module, patches: Float[Tensor, "S F"], grids: Sequence[tuple[int, int, int]]
) -> Float[Tensor, "1 N D"]:
    """Features of several pictures or clips in one call: N = S / merge², item after item; a single level."""
    features: Tensor = tower_output(model, patches, grids).pooler_output
    return features[None]


def tower_output(model: nn.Module, patches: Float[Tensor, "S F"], grids: Sequence[tuple[int, int, int]]) -> Any:
    """What the Hugging Face tower returns."""
    tower = cast(Any, model).model.visual
    return tower(patches.to(tower.dtype), grid_thw=torch.tensor(grids, dtype=torch.long, device=patches.device))


def language_model(model: nn.Module) -> nn.Module:
    """The decoder, without the head."""
    return cast(nn.Module, cast(Any, model).model.language_model)


def token_embedding(model: nn.Module) -> nn.Module:
    """The table of token embeddings."""
    return cast(nn.Module, cast(Any, model).model.language_model.embed_tokens)


def cut(processor: Any, image: Any, min_pixels: int | None, max_pixels: int | None) -> tuple[Tensor, Grid]:
    """Patches and grid of a picture, resized so that its area keeps the bounds (the processor's own where None)."""
    size = processor.image_processor.size
    bounds = {
        "shortest_edge": min_pixels or size["shortest_edge"],  # of the area, despite the names
        "longest_edge": max_pixels or size["longest_edge"],
    }
    features = processor.image_processor(images=[image], size=bounds, return_tensors="pt")
    time, height, width = (int(side) for side in features["image_grid_thw"][0])
    return features["pixel_values"].contiguous(), (time, height, width)


def merge_size(config: Any) -> int:
    """Side of the square of patches that becomes one visual token."""
    return int(config.vision_config.spatial_merge_size)


def never_sampled(config: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that mean a picture or a clip, or enclose one: `<|vision_start|>`, `<|image_pad|>` and their like."""
    known = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id")
    ids = (getattr(config, name, None) for name in known)
    return frozenset(i for i in ids if i is not None)


def vision_parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """What `train.freeze` names: the tower without its merger, the merger (projector), the language model and head."""
    inner = cast(Any, model).model
    tower = inner.visual
    return {
        "vision": (tower.patch_embed, tower.blocks),
        "projector": (tower.merger,),
        "language": (inner.language_model, cast(Any, model).lm_head),
    }


def _attend(q: Tensor, k: Tensor, v: Tensor, stretches: int, scale: float) -> Tensor:
    """Attention inside each of `stretches` equal stretches of [S, heads, dim] tensors."""
    q, k, v = (x.view(stretches, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(0, 1)
