"""The policy: one module whose forward takes a packed batch and returns log-probabilities and entropies.

DeepSpeed wraps it whole: every parameter is used inside `forward`, none is reached for outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrl.batch import PolicyOutputs
from mmrl.policy.attention import ATTENTION, Kernel, PackedAttention, register_attention
from mmrl.policy.disagreement import group_disagreement
from mmrl.policy.family import Family
from mmrl.policy.features import FeatureStore
from mmrl.policy.packed import PackedBatch, visual_tokens
from mmrl.policy.row_cache import RowCache
from mmrl.policy.shared_prefix import SharedPrefixCache
from mmrl.types import VisionItem

HEAD_CHUNK = 4096  # completion positions whose logits exist at one time


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What goes into the decoder: embeddings, and for families that feed features into deeper layers those too."""

    tokens: Float[Tensor, "R L D"]
    visual: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of the decoder


class Policy(nn.Module):
    """A vision-language model of a known family."""

    def __init__(self, model: nn.Module, family: Family, *, kernel: Kernel = "auto") -> None:
        super().__init__()
        self.kernel: Kernel = kernel  # of packed attention
        self.register_buffer("_unmasked", torch.ones(1, 1, 1, 1, dtype=torch.bool), persistent=False)
        family.prepare(model)
        register_attention()
        cast(Any, family.language_model(model)).config._attn_implementation = ATTENTION
        self.model = model
        self.family = family
        self.features = FeatureStore()

    def checkpoint_layers(self) -> None:
        """Keep only what enters each decoder layer and tower block; the rest is computed again in backward."""
        cast(Any, self.model).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def vision_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter on the way from pixels to features, under a name that copies of this policy share."""
        parts = self.family.vision_parts(self.model)
        for part in ("vision", "projector"):
            for i, module in enumerate(parts[part]):
                for name, parameter in module.named_parameters():
                    yield f"{part}.{i}.{name}", parameter

    @property
    def vision_frozen(self) -> bool:
        """Whether none of them learns."""
        return not any(parameter.requires_grad for _, parameter in self.vision_parameters())

    @property
    def config(self) -> Any:
        """The Hugging Face config of the model."""
        return cast(Any, self.model).config

    def forward(
        self,
        packed: PackedBatch,
        *,
        entropy: bool = False,
        learn_entropy: bool = False,
        compare: Int[Tensor, " B"] | None = None,
        head_chunk: int = HEAD_CHUNK,
    ) -> PolicyOutputs:
        """Log-probability of every completion token (and entropy where asked), [B, T]; 0 outside the mask.

        Entropies have a gradient with `learn_entropy` only: it costs two more tensors of the logits' size.
        `compare`: the group of each completion, to measure their disagreement as well; every group must be whole.
        """
        embedded = self.embed(packed)
        hidden = self.hidden_states(
            embedded.tokens,
            positions=packed.positions,
            attention=PackedAttention(packed.layout, self.kernel),
            cache=None,
            visual=embedded.visual,
        )
        picked = hidden.flatten(0, 1)[packed.predictors[packed.mask]]  # [M, D]
        logprobs, entropies = self._score(
            picked, packed.targets[packed.mask], head_chunk, entropy=entropy, learn_entropy=learn_entropy
        )
        differ = None
        if compare is not None:
            differ = group_disagreement(picked, packed.mask, compare, self.logits, chunk=head_chunk)
        return PolicyOutputs(
            logprobs=_spread(logprobs, packed.mask),
            entropy=_spread(entropies, packed.mask) if entropy else None,
            disagreement=differ,
        )

    def embed(self, packed: PackedBatch) -> Embedded:
        """Token embeddings with the visual features in their slots. Each distinct picture is encoded once."""
        tokens: Tensor = self.family.token_embedding(self.model)(packed.token_ids)
        if not packed.media:
            return Embedded(tokens=tokens)
        features = self.encode(packed.media)[:, packed.feature_index].to(tokens.dtype)  # [K, slots, D]
        filled = tokens.flatten(0, 1).index_copy(0, packed.feature_slots, features[0]).view_as(tokens)
        if len(features) == 1:
            return Embedded(tokens=filled)
        shown = torch.zeros(tokens.shape[:2].numel(), dtype=torch.bool, device=tokens.device)
        shown[packed.feature_slots] = True
        return Embedded(
            tokens=filled,
            visual={
                "visual_pos_masks": shown.view(tokens.shape[:2]),
                "deepstack_visual_embeds": list(features[1:]),
            },
        )

    def encode(self, media: Sequence[VisionItem]) -> Float[Tensor, "K S D"]:
        """Features of the media, one after the other; those that `features` keeps are not encoded again."""
        return self.features.features(media, self._encode)

    def _encode(self, media: Sequence[VisionItem]) -> list[Tensor]:
        patches = media[0].patches if len(media) == 1 else torch.cat([m.patches for m in media])
        device = next(self.model.parameters()).device
        features = self.family.encode_vision(self.model, patches.to(device), [m.grid for m in media])
        merge = self.family.merge_size(self.config)
        return list(features.split([visual_tokens(m.grid, merge) for m in media], dim=1))

    def hidden_states(
        self,
        embedded: Float[Tensor, "R L D"],
        *,
        positions: Int[Tensor, "3 R L"],
        attention: PackedAttention | None,
        cache: SharedPrefixCache | RowCache | None,
        visual: Mapping[str, Any] | None = None,
    ) -> Float[Tensor, "R L D"]:
        """The decoder's last hidden states; with a `cache`, its keys and values are used and extended.

        `attention` says how packed rows attend; None while decoding, when the cache knows. `visual`: what `embed` says
        the decoder must be given beside the embeddings.
        """
        out = self.family.language_model(self.model)(
            inputs_embeds=embedded,
            position_ids=positions,
            attention_mask=self._unmasked if attention is None else attention.mask,
            past_key_values=cache,
            use_cache=cache is not None,
            **(visual or {}),
            **({"packed": attention} if attention is not None else {"shared_prefix": cache}),
        )
        return cast(Tensor, out.last_hidden_state)

    def logits(self, hidden: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        """Next-token logits in float32."""
        return cast(Tensor, cast(Any, self.model).lm_head(hidden)).float()

    def _score(
        self,
        hidden: Float[Tensor, "M D"],
        targets: Int[Tensor, " M"],
        chunk: int,
        *,
        entropy: bool,
        learn_entropy: bool,
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
        """Chunk by chunk, recomputing a chunk's logits in backward: the full logits never exist."""

        def score(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            log_probs = self.logits(h).log_softmax(dim=-1)
            chosen = log_probs.gather(-1, t[:, None]).squeeze(-1)
            if not entropy:
                return chosen, torch.zeros_like(chosen)
            with torch.set_grad_enabled(learn_entropy and torch.is_grad_enabled()):
                return chosen, -(log_probs.exp() * log_probs).sum(-1)

        if len(hidden) <= chunk:
            return score(hidden, targets)
        pieces = [
            checkpoint(score, h, t, use_reentrant=False)
            for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True)
        ]
        return torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces])


def _spread(values: Float[Tensor, " M"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Values of the masked positions, in order, back to [B, T]; 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
