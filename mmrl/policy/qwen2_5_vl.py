"""Qwen2.5-VL: positions, vision tower, coordinates.

Positions follow the original model (and vLLM), not transformers 5: text after a media item continues at the maximum of
all positions so far + 1. For pictures both agree; for video transformers lets the text overlap the clip's time axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as hf

from mmrl.types import Prompt


def prompt_positions(prompt: Prompt, config: Any) -> Int[Tensor, "3 P"]:
    """Multimodal rotary positions (time, height, width) of a prompt. Qwen2-VL, arXiv:2409.12191 §2.1.

    Text advances all three together; a media item spans a grid from the position it starts at, its time axis in steps
    of `tokens_per_second` × seconds between grid times (0 for pictures). What follows starts at the maximum + 1.
    """
    merge = config.vision_config.spatial_merge_size
    per_second = config.vision_config.tokens_per_second
    positions = torch.empty(3, len(prompt.token_ids), dtype=torch.long)
    at, following = 0, 0  # next token, next position
    for i, (first, stop) in enumerate(prompt.media_slots):
        assert prompt.vision is not None
        positions[:, at:first] = torch.arange(following, following + first - at)
        start = following + first - at
        t, h, w = prompt.vision.grids[i]
        seconds = prompt.vision.seconds_per_grid[i]
        times = torch.tensor([math.floor(k * seconds * per_second) for k in range(t)])
        grid = torch.stack(torch.meshgrid(times, torch.arange(h // merge), torch.arange(w // merge), indexing="ij"))
        positions[:, first:stop] = grid.reshape(3, -1) + start
        following = int(positions[:, first:stop].max()) + 1
        at = stop
    positions[:, at:] = torch.arange(following, following + len(prompt.token_ids) - at)
    return positions


def encode_vision(
    model: nn.Module, patches: Float[Tensor, "S F"], grids: Sequence[tuple[int, int, int]]
) -> Float[Tensor, "1 N D"]:
    """Features of several pictures or clips in one call: N = S / merge², item after item; a single level."""
    tower = cast(Any, model).model.visual
    grid = torch.tensor(grids, dtype=torch.long, device=patches.device)
    features: Tensor = tower(patches.to(tower.dtype), grid_thw=grid).pooler_output
    return features[None]


def language_model(model: nn.Module) -> nn.Module:
    """The decoder, without the head."""
    return cast(nn.Module, cast(Any, model).model.language_model)


def token_embedding(model: nn.Module) -> nn.Module:
    return cast(nn.Module, cast(Any, model).model.language_model.embed_tokens)


def spoken_size(grid: tuple[int, int, int], config: Any) -> tuple[float, float]:
    """Qwen2.5-VL speaks pixels of the resized picture: (width, height) of it, from the grid that was actually used."""
    patch = config.vision_config.patch_size
    return float(grid[2] * patch), float(grid[1] * patch)


def vision_parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """What `train.freeze` names: the tower without its merger, the merger (projector), the language model and head."""
    inner = cast(Any, model).model
    tower = inner.visual
    return {
        "vision": (tower.patch_embed, tower.blocks),
        "projector": (tower.merger,),
        "language": (inner.language_model, cast(Any, model).lm_head),
    }


def prepare(model: nn.Module) -> None:
    """Replace two slow pieces of the tower by exact faster ones; parameters and their names stay."""
    tower = cast(Any, model).model.visual
    tower.patch_embed.__class__ = _LinearPatchEmbed
    for block in tower.blocks:
        block.attn.__class__ = _BatchedWindowAttention


class _LinearPatchEmbed(hf.Qwen2_5_VisionPatchEmbed):
    """The patch embedding as the matrix product it is: stride equals kernel, so the slow Conv3d is not needed."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        weight = self.proj.weight
        return F.linear(hidden_states.to(weight.dtype).view(-1, weight[0].numel()), weight.flatten(1))


class _BatchedWindowAttention(hf.Qwen2_5_VLVisionAttention):
    """Window attention where windows of equal length are one batch, instead of a Python loop over windows."""

    def forward(  # type: ignore[override]  # the tower always passes rotary embeddings
        self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **kwargs: Any
    ) -> Tensor:
        length = hidden_states.shape[0]
        q, k, v = self.qkv(hidden_states).reshape(length, 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
        q, k = hf.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        sizes = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
        if len(set(sizes)) == 1:
            whole: Tensor = self.proj(_attend(q, k, v, len(sizes), self.scaling).reshape(length, -1))
            return whole
        starts = cu_seqlens[:-1]
        pieces, order = [], []
        for size in sorted(set(sizes)):
            windows = torch.tensor([i for i, s in enumerate(sizes) if s == size], device=starts.device)
            index = (starts[windows][:, None] + torch.arange(size, device=starts.device)).flatten()
            pieces.append(_attend(q[index], k[index], v[index], len(windows), self.scaling))
            order.append(index)
        out = torch.cat(pieces)[torch.argsort(torch.cat(order))]
        projected: Tensor = self.proj(out.reshape(length, -1))
        return projected


def _attend(q: Tensor, k: Tensor, v: Tensor, windows: int, scale: float) -> Tensor:
    """Attention inside each of `windows` equal stretches of [S, heads, dim] tensors."""
    q, k, v = (x.view(windows, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(0, 1)
