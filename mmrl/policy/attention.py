"""The attention mmrl puts into Hugging Face decoders, under the name `ATTENTION` in their registry.

One function serves four uses, told apart by keyword arguments that decoders hand through to their layers:

    packed rows      `packed=PackedAttention(…)`: training passes and prefilling
    decoding         `shared_prefix=SharedPrefixCache`: one token per branch, the prompt's keys once
    anything else    transformers' own SDPA function, with the mask it was given

Packed rows have three kernels behind one switch:

    split   three plain attentions and their exact sum (`split_attention.py`); CPU
    flex    FlexAttention with a block mask (arXiv:2412.05496): blocks without an allowed pair are skipped; GPU
    sdpa    scaled dot-product attention with a dense mask: everywhere, and what the others are tested against
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mmrl.policy.layout import PROMPT, Layout
from mmrl.policy.shared_prefix import SharedPrefixCache
from mmrl.policy.split_attention import split_attention

ATTENTION = "mmrl"

Kernel = Literal["auto", "split", "flex", "sdpa"]


def register_attention() -> None:
    """Make `ATTENTION` known to transformers. Called when a policy is built; calling it again changes nothing."""
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class PackedAttention:
    """How the queries of one packed batch attend. Made once per pass, used by every layer."""

    def __init__(self, layout: Layout, kernel: Kernel = "auto") -> None:
        device = layout.part_of.device
        chosen = ("split" if device.type == "cpu" else "flex") if kernel == "auto" else kernel
        self._layout = layout
        # Right padding is later than every real token: prompts alone need no mask at all.
        self._kernel = "causal" if layout.prompts_alone else chosen
        self._blocks = _block_mask(layout) if self._kernel == "flex" else None
        # What the decoder is given as its mask. A four-dimensional one is handed to the layers as it is; only `sdpa`
        # looks at it.
        self.mask = (
            layout.dense_mask() if self._kernel == "sdpa" else torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
        )

    def __call__(
        self,
        module: Any,
        query: Float[Tensor, "R H L d"],
        key: Float[Tensor, "R h L d"],
        value: Float[Tensor, "R h L d"],
        scale: float,
    ) -> Float[Tensor, "R L H d"]:
        if self._kernel == "split":
            return split_attention(query, key, value, self._layout, scale)
        if self._kernel == "flex":
            out: Tensor = _flex(query.device)(query, key, value, block_mask=self._blocks, scale=scale, enable_gqa=True)
            return out.transpose(1, 2)
        mask = self.mask if self._kernel == "sdpa" else None
        attended: Tensor = sdpa_attention_forward(module, query, key, value, mask, scaling=scale)[0]
        return attended


def attend(
    module: Any,
    query: Float[Tensor, "B H Q d"],
    key: Float[Tensor, "B h K d"],
    value: Float[Tensor, "B h K d"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    packed: PackedAttention | None = None,
    shared_prefix: SharedPrefixCache | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function transformers calls, as its registry asks for it."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if shared_prefix is not None:
        return shared_prefix.attend(query, key, value, layer=module.layer_idx, scale=scale), None
    if packed is not None:
        return packed(module, query, key, value, scale), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)


def _block_mask(layout: Layout) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask  # slow to import, and rarely needed

    part_of, branch_of = layout.part_of, layout.branch_of

    def allowed(row: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same_part = part_of[row, q] == part_of[row, k]
        shared = (branch_of[row, k] == PROMPT) | (branch_of[row, k] == branch_of[row, q])
        return same_part & (k <= q) & shared  # padding is one part: it attends to earlier padding and itself

    return create_block_mask(
        allowed, layout.rows, None, layout.length, layout.length, device=str(part_of.device), BLOCK_SIZE=128
    )


@functools.cache
def _flex(device: torch.device) -> Callable[..., Any]:
    """Compiled where it is meant to run; the plain function elsewhere gives the same numbers, slowly."""
    from torch.nn.attention.flex_attention import flex_attention

    if device.type == "cuda":
        return torch.compile(flex_attention, dynamic=True)
    return cast(Callable[..., Any], flex_attention)
