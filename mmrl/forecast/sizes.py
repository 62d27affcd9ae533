"""What memory and time depend on of a model: counted on a skeleton, which has every parameter and no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmrl.backend.optimizer import freeze_parts, trainable
from mmrl.config.schema import Config
from mmrl.policy.adapters import add_adapters, is_adapter
from mmrl.policy.cost import DecoderShape
from mmrl.policy.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of one model with one config's adapters and frozen parts."""

    family: str
    parts: Mapping[str, int]  # parameters of vision, projector, language, adapters
    trained: Mapping[str, int]  # those that learn
    element: int  # bytes of a weight: 4 or 2
    weights: int  # bytes of all, adapters in float32, 4-bit layers in theirs
    trained_bytes: int  # of the trained ones, in their own format
    separate: int  # trained numbers in a narrower format than float32, whose masters are apart
    largest: int  # numbers of the largest parameter
    layers: int
    hidden: int
    inner: int
    query: int  # query heads × head size
    key: int  # key heads × head size
    heads: int
    head: int  # numbers of a head
    norms: bool  # queries and keys are normalised (the Qwen3 line)
    vocabulary: int
    decoder: DecoderShape
    depth: int  # blocks of the tower
    vision: int  # its width
    vision_inner: int
    levels: int  # of features: 1 + those for deeper layers
    patch_values: int
    merge: int  # side of the square of patches that is one visual token
    window: int  # patches of a window; 0: every block attends over the whole picture
    full_blocks: int
    tower_learns: bool

    @property
    def parameters(self) -> int:
        return sum(self.parts.values())

    @property
    def learning(self) -> int:
        """Numbers that the optimiser changes."""
        return sum(self.trained.values())


def sizes_of(config: Config, policy: Policy, *, element: int) -> Sizes:
    """Adds the config's adapters to the skeleton and freezes what it freezes, as a run does."""
    lora, train = config.train.lora, config.train
    if lora is not None:
        with torch.device("meta"):
            add_adapters(policy, **lora.model_dump(), seed=0)
    freeze_parts(policy, train.freeze)
    learns = {id(parameter) for _, parameter in trainable(policy)}
    parts, trained = _by_part(policy, learns)
    text, vision = policy.config.get_text_config(), policy.config.vision_config
    head = int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    weights = sum(p.numel() * _bytes(config, policy, name, p) for name, p in policy.model.named_parameters())
    learning = [p for p in policy.parameters() if id(p) in learns]
    depth = int(getattr(vision, "depth", None) or vision.num_hidden_layers)
    width = int(getattr(vision, "embed_dim", None) or vision.hidden_size)
    inner = getattr(vision, "intermediate_size", None) or width * getattr(vision, "mlp_ratio", 4)
    full = getattr(vision, "fullatt_block_indexes", None)
    return Sizes(
        family=policy.family.name,
        parts=parts,
        trained=trained,
        element=element,
        weights=round(weights),
        trained_bytes=sum(p.numel() * p.element_size() for p in learning),
        separate=sum(p.numel() for p in learning if p.element_size() < 4),
        largest=max(p.numel() for p in policy.parameters()),
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        inner=int(text.intermediate_size),
        query=int(text.num_attention_heads) * head,
        key=int(text.num_key_value_heads) * head,
        heads=int(text.num_attention_heads),
        head=head,
        norms=any(name.endswith("q_norm.weight") for name, _ in policy.model.named_parameters()),
        vocabulary=int(text.vocab_size),
        decoder=DecoderShape.of(policy.config),
        depth=depth,
        vision=width,
        vision_inner=int(inner),
        levels=1 + len(getattr(vision, "deepstack_visual_indexes", None) or ()),
        patch_values=3 * int(getattr(vision, "temporal_patch_size", 1)) * int(vision.patch_size) ** 2,
        merge=policy.family.merge_size(policy.config),
        window=(int(vision.window_size) // int(vision.patch_size)) ** 2 if full is not None else 0,
        full_blocks=depth if full is None else len([i for i in full if i < depth]),
        tower_learns=not policy.vision_frozen,
    )


def _by_part(policy: Policy, learns: set[int]) -> tuple[dict[str, int], dict[str, int]]:
    owner: dict[int, str] = {}
    for part, modules in policy.family.vision_parts(policy.model).items():
        for module in modules:
            owner |= {id(parameter): part for parameter in module.parameters()}
    names = ("vision", "projector", "language", "adapters")
    parts, trained = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for name, parameter in policy.model.named_parameters():
        # What no part names is the tower's: learned positions, which `train.freeze` leaves alone.
        part = "adapters" if is_adapter(name) else owner.get(id(parameter), "vision")
        parts[part] += parameter.numel()
        trained[part] += parameter.numel() if id(parameter) in learns else 0
    return parts, trained


FOUR_BIT = 0.5 + 0.127 / 8  # bytes: a NormalFloat, and its block's constants quantised again (arXiv:2305.14314, §3)


def _bytes(config: Config, policy: Policy, name: str, parameter: Any) -> float:
    """Of one number of this parameter."""
    if config.model.four_bit and not is_adapter(name) and name.endswith(".weight"):
        owner = policy.model.get_submodule(name.removesuffix(".weight"))
        decoder = policy.family.language_model(policy.model)
        if isinstance(owner, nn.Linear) and any(module is owner for module in decoder.modules()):
            return FOUR_BIT
    return float(parameter.element_size())
