"""Floating-point operations of a GRPO step, for the share of a machine's matrix rate that is used.

One multiplication and one addition count as two. Only matrix products count: norms, activations, rotary embeddings and
softmax are left out, as is usual for model FLOPs utilisation (PaLM, arXiv:2204.02311 appendix B).

    decoder   2 · tokens · layers · (h·(q + 2·kv) + q·h + 3·h·m)  +  4 · layers · q · pairs
    head      2 · h · vocabulary                                     per position that is scored or sampled from
    tower     2 · patches · (f·v + depth · (4·v² + 3·v·n))  +  4 · v · Σ layers pairs
              + 2 · patches/4 · (16·v² + 4·v·h)                      merger

h, v: hidden sizes of decoder and tower; q, kv: width of all query and all key heads; m, n: inner widths of the MLPs; f:
values of a patch. `pairs`: (query, key) pairs that may attend, causal in the decoder; in the tower all pairs of a
picture in its full layers, of a 112-pixel window in the others. A backward pass costs twice its forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BACKWARD = 2.0  # of the forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a Qwen2.5-VL that matrix products depend on."""

    hidden: int
    layers: int
    query_width: int
    key_width: int
    inner: int
    vocabulary: int
    vision_hidden: int
    vision_depth: int
    vision_inner: int
    vision_full: int  # layers with attention over the whole picture
    patch_values: int
    window_patches: int

    @staticmethod
    def of(config: Any) -> Shape:
        """From a Hugging Face config."""
        text, vision = config.get_text_config(), config.vision_config
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return Shape(
            hidden=text.hidden_size,
            layers=text.num_hidden_layers,
            query_width=text.num_attention_heads * head,
            key_width=text.num_key_value_heads * head,
            inner=text.intermediate_size,
            vocabulary=text.vocab_size,
            vision_hidden=vision.hidden_size,
            vision_depth=vision.depth,
            vision_inner=vision.intermediate_size,
            vision_full=len(vision.fullatt_block_indexes),
            patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
            window_patches=(vision.window_size // vision.patch_size) ** 2,
        )

    @property
    def per_token(self) -> float:
        """Decoder, products with weights, one token."""
        attention = self.hidden * (self.query_width + 2 * self.key_width) + self.query_width * self.hidden
        return 2.0 * self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def per_pair(self) -> float:
        """Decoder, one (query, key) pair in every layer: the score, and its share of the value."""
        return 4.0 * self.layers * self.query_width

    @property
    def per_scored(self) -> float:
        return 2.0 * self.hidden * self.vocabulary

    @property
    def per_patch(self) -> float:
        """Tower and merger, products with weights, one patch."""
        v = self.vision_hidden
        blocks = self.vision_depth * (4 * v * v + 3 * v * self.vision_inner)
        merger = (16 * v * v + 4 * v * self.hidden) / 4
        return 2.0 * (self.patch_values * v + blocks + merger)

    def tower(self, patches: int) -> float:
        """One picture of so many patches, attention included."""
        full = self.vision_full * patches * patches
        windows = (self.vision_depth - self.vision_full) * patches * min(patches, self.window_patches)
        return patches * self.per_patch + 4.0 * self.vision_hidden * (full + windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFlops:
    """By pass; every prompt and picture once per pass."""

    rollout: float
    reference: float
    update: float

    @property
    def total(self) -> float:
        return self.rollout + self.reference + self.update


def needed(
    shape: Shape,
    prompts: Sequence[tuple[int, int]],
    *,
    group_size: int,
    completion_tokens: int,
    beta: float,
    frozen: bool,
) -> StepFlops:
    """The least a step needs. `prompts`: (tokens, patches of its one picture).

    A frozen tower runs once, in the rollout; a trainable one in every pass.
    """
    decoder = head = tower = 0.0
    for tokens, patches in prompts:
        later = completion_tokens - 1  # the last token is never read
        pairs = tokens * (tokens + 1) / 2 + group_size * (later * tokens + later * (later + 1) / 2)
        decoder += shape.per_token * (tokens + group_size * later) + shape.per_pair * pairs
        head += shape.per_scored * group_size * completion_tokens
        tower += shape.tower(patches)
    # Sampling the first token takes one position per prompt, not one per completion.
    sampled = head - shape.per_scored * (group_size - 1) * len(prompts)
    again = 0.0 if frozen else tower
    return StepFlops(
        rollout=decoder + sampled + tower,
        reference=(decoder + head + again) if beta else 0.0,
        update=(1 + BACKWARD) * (decoder + head + again),
    )


def computed(shape: Shape, by_pass: Mapping[str, Mapping[str, int]]) -> float:
    """What the counters say was computed, in products with the decoder's and tower's weights (no attention, no head).

    `by_pass`: of `counting.beside_bounds`. A tower that does not train has no backward pass, and its patches are not
    counted under "update" where a tool runs it without gradient.
    """

    def factor(name: str) -> float:
        return 1 + BACKWARD if name == "update" else 1.0

    return sum(
        factor(name) * count * each
        for kind, each in (("tokens", shape.per_token), ("patches", shape.per_patch))
        for name, count in by_pass[kind].items()
    )
