"""Decoding where nothing can be shared: every completion has keys, values and states of its own.

For decoders whose layers carry more than keys and values (short convolutions, recurrent states). A prompt is still
computed once; what its last token leaves behind is then copied for each of its completions.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache


class RowCache(DynamicCache):
    """Hugging Face's cache with the methods of `SharedPrefixCache`.

    Its prompts must be equally long: padding would enter the states.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)

    def branch(self, sizes: Int[Tensor, " P"], *, room: int, lengths: Int[Tensor, " P"]) -> None:
        """`sizes` branches of each prompt, ordered by prompt. `room` is made as it is needed."""
        assert len(set(lengths.tolist())) == 1, "prompts of different lengths in one cache of states"
        rows = torch.arange(len(lengths), device=lengths.device)
        self.keep(rows.repeat_interleave(sizes))

    def keep(self, rows: Int[Tensor, " n"]) -> None:
        """Forget all branches but these."""
        self.reorder_cache(rows)  # type: ignore[arg-type]  # annotated with the class torch calls LongTensor

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, *, layer: int, scale: float) -> Tensor:
        """[N, H, 1, d] queries against their own [N, heads, L, d] keys, all of them → [N, 1, H, d]."""
        grouped = query.shape[1] != keys.shape[1]
        return F.scaled_dot_product_attention(query, keys, values, scale=scale, enable_gqa=grouped).transpose(1, 2)
