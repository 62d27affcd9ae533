"""What a pass costs in floating-point operations, and which layout of the step's rollouts is cheaper.

Packed rows compute a prompt once for several completions; the repeated layout gives every completion its own. Packed
wins nearly always. It loses where long completions of a short prompt share a row and the attention kernel computes
forbidden pairs as well: a dense mask costs the square of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.policy.attention import Kernel
from mmrl.policy.packed import Part, first_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """What the cost of a decoder pass depends on."""

    weights: int  # parameters each position is multiplied with, the head apart
    layers: int
    width: int  # query heads × head size

    @classmethod
    def of(cls, config: Any) -> DecoderShape:
        """From a Hugging Face config with a gated MLP and grouped queries (the Qwen2 and Qwen3 lines)."""
        text = config.get_text_config()
        hidden, heads = text.hidden_size, text.num_attention_heads
        size = getattr(text, "head_dim", None) or hidden // heads
        attention = hidden * size * (2 * heads + 2 * text.num_key_value_heads)
        return cls(
            weights=text.num_hidden_layers * (attention + 3 * hidden * text.intermediate_size),
            layers=text.num_hidden_layers,
            width=heads * size,
        )


def pass_cost(micro_batches: Sequence[Sequence[Part]], kernel: Kernel, shape: DecoderShape) -> float:
    """Floating-point operations of a forward pass of the decoder, padding included; backward is twice that.

    A multiplication and an addition count as two. Attention: scores and weighted sum over every pair the kernel
    computes, 4 · layers · width per pair.
    """
    positions = pairs = 0.0
    for parts in micro_batches:
        rows = first_fit(parts)
        length = max(sum(part.tokens for part in row) for row in rows)
        positions += len(rows) * length
        pairs += len(rows) * length**2 if kernel == "sdpa" else _allowed_pairs(parts)
    return 2 * shape.weights * positions + 4 * shape.layers * shape.width * pairs


def _allowed_pairs(parts: Sequence[Part]) -> float:
    """Pairs of split attention; block masks come near it. Branches are padded to the longest of the batch."""
    longest = max((len(b) - 1 for part in parts for b in part.branches), default=0)
    total = 0.0
    for part in parts:
        prompt = len(part.prompt.token_ids)
        total += prompt**2 / 2 + prompt * (part.tokens - prompt) + len(part.branches) * longest**2 / 2
    return total
