"""The policy: one module whose forward takes a packed batch and returns log-probabilities and entropies.

DeepSpeed wraps it whole: every parameter is used inside `forward`, none is reached for outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrl.batch import PolicyOutputs
from mmrl.policy.attention import ATTENTION, Kernel, PackedAttention, register_attention
from mmrl.policy.disagreement import count_comparisons, group_disagreement
from mmrl.policy.family import Family
from mmrl.policy.features import FeatureStore
from mmrl.policy.packed import PackedBatch, visual_tokens
from mmrl.policy.row_cache import RowCache
from mmrl.policy.shared_prefix import SharedPrefixCache
from mmrl.types import VisionItem

HEAD_CHUNK = 4096  # completion positions whose logits exist at one time

# Where parameters are spread over ranks, using a module is a meeting of all of them: every rank must use the same
# modules in the same order, whatever its own batch holds. How they find out: the largest of each number over all ranks.
Agree = Callable[[Sequence[int]], Sequence[int]]


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

    def tower_bytes_per_patch(self) -> float:
        """What the tower's graph keeps for its backward, per patch: measured on the smallest picture."""
        weights = {parameter.untyped_storage()._cdata for parameter in self.parameters()}
        kept: dict[int, int] = {}

        def note(saved: Tensor) -> Tensor:
            storage = saved.untyped_storage()
            if storage._cdata not in weights:  # addresses of memory would do, but for tensors that have none
                kept[storage._cdata] = storage.nbytes()
            return saved

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            out = self._idle_features(next(self.model.parameters()).device)  # alive, and with it what was kept
        return sum(kept.values()) / self.family.merge_size(self.config) ** 2 if out.requires_grad else 0.0

    def forward(
        self,
        packed: PackedBatch,
        *,
        entropy: bool = False,
        learn_entropy: bool = False,
        compare: Int[Tensor, " B"] | None = None,
        head_chunk: int = HEAD_CHUNK,
        agree: Agree | None = None,
    ) -> PolicyOutputs:
        """Log-probability of every completion token (and entropy where asked), [B, T]; 0 outside the mask.

        Entropies have a gradient with `learn_entropy` only: it costs two more tensors of the logits' size.
        `compare`: the group of each completion, to measure their disagreement as well; every group must be whole.
        `agree`: given, all ranks call this together and use the same modules equally often: the tower without pictures
        to show it, the head without positions to predict from.
        """
        tower = int(bool(packed.media) and not self.features.knows(packed.media))
        if self.training and torch.is_grad_enabled() and not self.features.frozen:
            tower = 1  # else no rank might use it, and what shards gradients would take the last step's for this one's
        pieces = max(1, math.ceil(int(packed.mask.sum()) / head_chunk))
        comparisons = 0 if compare is None else count_comparisons(packed.mask, compare, chunk=head_chunk)
        if agree is not None:
            tower, pieces, comparisons = agree((tower, pieces, comparisons))
        embedded = self.embed(packed, idle_tower=agree is not None and tower > 0)
        hidden = self.hidden_states(
            embedded.tokens,
            positions=packed.positions,
            attention=PackedAttention(packed.layout, self.kernel),
            cache=None,
            visual=embedded.visual,
        )
        picked = hidden.flatten(0, 1)[packed.predictors[packed.mask]]  # [M, D]
        logprobs, entropies = self._score(
            picked, packed.targets[packed.mask], pieces, entropy=entropy, learn_entropy=learn_entropy
        )
        differ = None
        if compare is not None:
            differ = group_disagreement(
                picked, packed.mask, compare, self.logits, chunk=head_chunk, comparisons=comparisons
            )
        return PolicyOutputs(
            logprobs=_spread(logprobs, packed.mask),
            entropy=_spread(entropies, packed.mask) if entropy else None,
            disagreement=differ,
        )

    def embed(self, packed: PackedBatch, *, idle_tower: bool = False) -> Embedded:
        """Token embeddings with the visual features in their slots. Each distinct picture is encoded once.

        `idle_tower`: the tower is used even where there is nothing to encode; that adds nothing.
        """
        tokens: Tensor = self.family.token_embedding(self.model)(packed.token_ids)
        if idle_tower and (not packed.media or self.features.knows(packed.media)):
            tokens = tokens + self._idle_features(tokens.device).sum().to(tokens.dtype)
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

    def _idle_features(self, device: torch.device) -> Float[Tensor, "K 0 D"]:
        """No features, from the tower's work on the smallest black picture: their gradient is 0 for all of it."""
        weight: Any = next(parameter for name, parameter in self.vision_parameters() if name.startswith("vision."))
        values = math.prod(getattr(weight, "ds_shape", weight.shape)[1:])  # of a patch; DeepSpeed empties `shape`
        side = self.family.merge_size(self.config)
        patches = torch.zeros(side * side, values, device=device)
        return self.family.encode_vision(self.model, patches, [(1, side, side)])[:, :0]

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
        pieces: int,
        *,
        entropy: bool,
        learn_entropy: bool,
    ) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
        """Piece by piece, recomputing a piece's logits in backward: the full logits never exist."""

        def score(h: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            log_probs = self.logits(h).log_softmax(dim=-1)
            chosen = log_probs.gather(-1, t[:, None]).squeeze(-1)
            if not entropy:
                return chosen, torch.zeros_like(chosen)
            with torch.set_grad_enabled(learn_entropy and torch.is_grad_enabled()):
                return chosen, -(log_probs.exp() * log_probs).sum(-1)

        if pieces == 1:
            return score(hidden, targets)
        scored = [
            checkpoint(score, h, t, use_reentrant=False)
            for h, t in zip(hidden.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
        ]
        return torch.cat([s[0] for s in scored]), torch.cat([s[1] for s in scored])


def share_features(policy: Policy, reference: Policy | None) -> None:
    """With a frozen tower features are computed once a step, for the reference as well if its tower is the same."""
    policy.features.frozen = policy.vision_frozen
    if reference is not None and policy.vision_frozen:
        ours, theirs = (dict(one.vision_parameters()) for one in (policy, reference))
        if all(torch.equal(ours[name], theirs[name]) for name in ours):
            reference.features = policy.features


@contextmanager
def other_features(policy: Policy) -> Iterator[None]:
    """Inside, the policy's tower is not the one whose features it keeps: it encodes anew. Frozen ones are the same."""
    own = policy.features
    if not own.frozen:
        policy.features = FeatureStore()
    try:
        yield
    finally:
        policy.features = own


def _spread(values: Float[Tensor, " M"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Values of the masked positions, in order, back to [B, T]; 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
