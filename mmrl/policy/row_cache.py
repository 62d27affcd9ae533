"""Families that cannot pack: their decoder is called as Hugging Face calls it, and every completion has its own cache.

For decoders whose layers carry more than keys and values, or look at more than a mask allows: short convolutions,
recurrent states, sliding windows. Rows are padded on the right, which nothing causal can see. A prompt is still
computed once when it is sampled from; what its last token leaves behind is then copied for each of its completions.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import DynamicCache


class RowCache(DynamicCache):
    """Hugging Face's cache with the methods of `SharedPrefixCache` that an engine calls.

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


def call_plainly(decoder: nn.Module, *, axes: Literal[1, 3] = 1) -> None:
    """Let a decoder be called with what packing decoders are given; it sees embeddings, positions and its cache.

    `axes` of the positions it takes. Without a mask it makes its own, causal one, windows included.
    """

    def plain(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        left = {name: value for name, value in kwargs.items() if name not in ("packed", "shared_prefix")}
        left["attention_mask"] = None
        positions = left.get("position_ids")
        if axes == 1 and positions is not None and positions.dim() == 3:
            left["position_ids"] = positions[0]
        return args, left

    decoder.register_forward_pre_hook(plain, with_kwargs=True)
