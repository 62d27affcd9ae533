"""LFM2-VL: a decoder that mixes attention with short convolutions over neighbouring tokens. arXiv:2511.23404.

A convolution sees the tokens before it whatever an attention mask says, so completions cannot share a row: this family
takes the repeated path (`Family.packs`). Positions are plain: 0, 1, 2, … over text and pictures alike.

A picture is shown whole, resized to whole squares of patches (`processor` bounds: 64 to 256 visual tokens), never cut
into tiles. Boxes and points are taken to be shares of its sides, 0 to 1, as the cards of LFM2.5-VL ask for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmrl.policy.coordinates import shares
from mmrl.policy.family import Family, Grid
from mmrl.policy.grid_positions import grid_positions
from mmrl.policy.row_cache import call_plainly
from mmrl.policy.spelling import ShownItem, Spelling
from mmrl.types import Prompt

TILES = 10  # most rows or columns of the tiles the published processor can cut

# Tokens that stand for a picture, enclose it, or name its tiles.
MARKS = (
    "<image>",
    "<|image_start|>",
    "<|image_end|>",
    "<|img_thumbnail|>",
    *(f"<|img_row_{row}_col_{column}|>" for row in range(1, TILES + 1) for column in range(1, TILES + 1)),
)


def prompt_positions(prompt: Prompt, config: Any) -> Int[Tensor, "3 P"]:
    """0, 1, 2, … on all three axes, of which the decoder is given one."""
    return grid_positions(len(prompt.token_ids), ())


def encode_vision(model: nn.Module, patches: Float[Tensor, "S F"], grids: Sequence[Grid]) -> Float[Tensor, "1 N D"]:
    """Features of several pictures, one after the other; pictures of equal size are one batch, so none is padded."""
    inner = cast(Any, model).model
    bounds = torch.tensor([0, *(h * w for _, h, w in grids)]).cumsum(0).tolist()
    features: list[Tensor] = [patches] * len(grids)
    for size in sorted({(h, w) for _, h, w in grids}):
        alike = [i for i, (_, h, w) in enumerate(grids) if (h, w) == size]
        pixels = torch.stack([patches[bounds[i] : bounds[i + 1]] for i in alike])  # [n, h·w, F]
        hidden = inner.vision_tower(
            pixel_values=pixels.to(inner.dtype),
            spatial_shapes=torch.tensor([size] * len(alike), device=patches.device),
            pixel_attention_mask=torch.ones(pixels.shape[:2], dtype=torch.long, device=patches.device),
        ).last_hidden_state
        projected = inner.multi_modal_projector(hidden.unflatten(1, size)).flatten(1, 2)
        for i, feature in zip(alike, projected, strict=True):
            features[i] = feature
    return torch.cat(features)[None]


def language_model(model: nn.Module) -> nn.Module:
    """The decoder, without the head."""
    return cast(nn.Module, cast(Any, model).model.language_model)


def token_embedding(model: nn.Module) -> nn.Module:
    """The table of token embeddings."""
    return cast(nn.Module, cast(Any, model).model.language_model.embed_tokens)


def merge_size(config: Any) -> int:
    """Side of the square of patches that becomes one visual token."""
    return int(config.downsample_factor)


def never_sampled(config: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of those marks the tokenizer has."""
    known = tokenizer.get_vocab()
    return frozenset({int(config.image_token_id), *(known[mark] for mark in MARKS if mark in known)})


def spell(item: ShownItem) -> Spelling:
    """One run between the marks of a picture."""
    text = f"<|image_start|>{item.placeholder}<|image_end|>"
    return Spelling(replaces=item.placeholder, text=text, runs=(item.tokens,))


def cut(processor: Any, image: Any, min_pixels: int | None, max_pixels: int | None) -> tuple[Tensor, Grid]:
    """Patches and grid of a picture, resized whole. The bounds become visual tokens: one is (2 · 16)² pixels."""
    images = processor.image_processor
    token = (images.encoder_patch_size * images.downsample_factor) ** 2
    features = images(
        images=[image],
        do_image_splitting=False,
        min_image_tokens=images.min_image_tokens if min_pixels is None else max(1, min_pixels // token),
        max_image_tokens=images.max_image_tokens if max_pixels is None else max(1, max_pixels // token),
        return_tensors="pt",
    )
    height, width = (int(side) for side in features["spatial_shapes"][0])
    return features["pixel_values"][0, : height * width].contiguous(), (1, height, width)


def vision_parts(model: nn.Module) -> dict[str, tuple[nn.Module, ...]]:
    """What `train.freeze` names: the tower, the projector, the language model and head."""
    inner = cast(Any, model).model
    return {
        "vision": (inner.vision_tower,),
        "projector": (inner.multi_modal_projector,),
        "language": (inner.language_model, cast(Any, model).lm_head),
    }


def prepare(model: nn.Module) -> None:
    """One row per completion, plain positions: the decoder is called as Hugging Face calls it."""
    call_plainly(language_model(model))


LFM2_VL = Family(
    name="lfm2_vl",
    model_types=("lfm2_vl",),
    packs=False,
    media=("image",),
    coordinates="0-1",
    prompt_positions=prompt_positions,
    encode_vision=encode_vision,
    language_model=language_model,
    token_embedding=token_embedding,
    merge_size=merge_size,
    never_sampled=never_sampled,
    cut=cut,
    spell=spell,
    spoken_size=shares,
    vision_parts=vision_parts,
    tower_runs_per_size=True,
    prepare=prepare,
)
