"""What one rank's memory holds, part by part, and in which of a step's phases.

    always      weights, float32 masters, AdamW's memory, copies of the policy for the reference's rule
    rollout     keys and values, the prefilling pass, logits; or vLLM's share of the GPU
    passes      old and reference log-probabilities: one layer's tensors, the head's
    update      what the forward pass keeps for the backward one, gradients, the head's chunk of logits
    optimiser   gradients, and what AdamW makes on the way

The most a phase needs comes on top of what is always there. What a decoder layer keeps for backward is, in numbers per
position (RMS norms and attention with their derivatives written out, as `rms_norm.py` and `split_attention.py` do):

    4 h + 2 q + 2 kv + 4 m + heads + 2        h hidden size, q and kv widths of queries and keys, m inner width

and of a tower's block per patch, v its width and n its inner one, what `TOWER` says. Both come from the bytes of the
tensors alive in single passes of tiny Qwen2-VL and Qwen2.5-VL models and are not held by a test yet; Qwen3-VL's tower
is taken to be like theirs. With gradient checkpointing only what enters each layer is kept, and one layer at a time
exists whole. On a GPU transformers' own norms keep two more tensors each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mmrl.algorithms.reference import PRECISE, REFERENCE, Reference
from mmrl.config.schema import Config
from mmrl.forecast.sizes import Sizes
from mmrl.forecast.step import Pass, Step
from mmrl.policy.features import FROZEN_BYTES
from mmrl.policy.policy import HEAD_CHUNK
from mmrl.policy.render import CACHE_BYTES

GIB = 2**30
HELD_BYTES = GIB  # of the tower's graph that plain torch keeps from the rollouts to the first update
BUCKET = 200_000_000  # numbers that DeepSpeed moves at a time
PREFETCH = 50_000_000  # … of the next layers' weights at stage 3
SAMPLED_COPIES = 5  # of [rollouts, vocabulary] in float32 while a token is drawn

Phase = Literal["always", "rollout", "passes", "update", "optimiser"]
PHASES: tuple[Phase, ...] = ("always", "rollout", "passes", "update", "optimiser")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Numbers that a tower's pass keeps, per patch."""

    width: float  # × its width, of a block …
    inner: float  # × its inner width, of a block …
    around: float  # × its width, before and after the blocks: embedding, merger


TOWER: Mapping[str, Tower] = {
    "qwen2_vl": Tower(width=10.0, inner=3.0, around=4.5),
    "qwen2_5_vl": Tower(width=10.0, inner=4.0, around=4.5),
    "qwen3_vl": Tower(width=10.0, inner=3.0, around=4.5),
}
OTHER_TOWER = Tower(width=10.0, inner=3.0, around=4.5)  # of a family that was not measured
SUMS = 8  # numbers per patch and block: sums of attention and statistics of norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One part of a rank's memory."""

    name: str
    phase: Phase
    bytes: int
    host: bool = False  # in the processor's memory though the policy is on a GPU
    exact: bool = False  # the bytes of tensors whose shapes are known


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how the run would be."""

    ranks: int
    cuda: bool
    device_bytes: float  # of the GPU's memory, for shares of it
    reference: Reference
    needs_reference: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """All parts of one rank."""

    parts: tuple[Held, ...]

    def phase(self, phase: Phase, *, host: bool = False) -> int:
        return sum(part.bytes for part in self.parts if part.phase == phase and part.host == host)

    def peak(self, *, host: bool = False) -> int:
        """The most at one time."""
        return self.phase("always", host=host) + max(self.phase(p, host=host) for p in PHASES[1:])

    @property
    def worst(self) -> Phase:
        """The phase that needs it."""
        return max(PHASES[1:], key=self.phase)


def memory_of(config: Config, sizes: Sizes, step: Step, setting: Setting) -> Memory:
    """Of one rank; process, libraries and CUDA's context apart (`predict.py`)."""
    parts = [*_always(config, sizes, setting), *_media(sizes, step, setting)]
    parts += _rollout(config, sizes, step, setting)
    parts += _passes(config, sizes, step, setting)
    parts += _update(config, sizes, step, setting)
    parts += _optimiser(config, sizes, setting)
    return Memory(parts=tuple(part for part in parts if part.bytes))


def _always(config: Config, sizes: Sizes, setting: Setting) -> list[Held]:
    backend, ranks = config.backend, setting.ranks
    sharded = backend.type == "deepspeed"
    stage = backend.zero_stage if sharded else 0
    spread = ranks if stage else 1
    weights = sizes.weights / (ranks if stage == 3 else 1)
    off_weights = stage == 3 and backend.offload_weights != "none" and setting.cuda
    off_optimizer = stage > 0 and backend.offload_optimizer != "none" and setting.cuda
    whole = stage < 3 or ranks == 1
    found = [Held(name="weights", phase="always", bytes=_up(weights), host=off_weights, exact=whole)]
    # DeepSpeed keeps float32 values of its own from stage 1 on, of float32 parameters too.
    masters = 4 * (sizes.learning if stage else sizes.separate) / spread
    eight_bit = config.train.optimizer == "adamw_8bit"
    moments = sizes.learning * (2 + 8 / 256 if eight_bit else 8) / spread
    nvme = backend.offload_optimizer == "nvme" and off_optimizer
    exact = spread == 1
    found += [
        Held(name="float32 masters", phase="always", bytes=_up(masters), host=off_optimizer, exact=exact),
        Held(
            name="AdamW's memory",
            phase="always",
            bytes=0 if nvme else _up(moments),
            host=off_optimizer,
            exact=exact and not eight_bit,
        ),
    ]
    for copy in setting.reference.copies if setting.needs_reference or setting.reference.moves_policy else ():
        if copy == PRECISE and sizes.element == 4:
            continue  # the reference itself
        size = sizes.weights if copy == REFERENCE else 4 * sizes.parameters
        share = _up(size / (ranks if stage == 3 else 1))
        found.append(Held(name=f"the reference's copy ({copy})", phase="always", bytes=share, exact=whole))
    return found


def _media(sizes: Sizes, step: Step, setting: Setting) -> list[Held]:
    """Pixels: those of the step, and the cache of those of earlier ones."""
    one = 4 * sizes.patch_values
    return [
        Held(
            name="pixels",
            phase="always",
            bytes=max(step.patches * one, min(CACHE_BYTES, step.patches * one * 4)),
            host=setting.cuda,
        )
    ]


def _rollout(config: Config, sizes: Sizes, step: Step, setting: Setting) -> list[Held]:
    rollout, e = config.rollout, sizes.element
    if rollout.engine == "vllm_server":
        return []
    if rollout.engine == "vllm":
        vllm = rollout.vllm
        if setting.cuda:
            share = vllm.memory_share * setting.device_bytes
            return [Held(name="vLLM, awake (rollout.vllm.memory_share)", phase="rollout", bytes=_up(share))]
        cache = (vllm.cache_gib or 1.0) * GIB
        own = sizes.weights if vllm.dtype in (None, config.backend.dtype) else sizes.parameters * 4
        return [Held(name="vLLM: weights and cache", phase="always", bytes=_up(own + cache))]
    per_token = 2 * sizes.layers * sizes.key * e
    prefix = len(step.prompts) * step.longest * per_token
    branches = step.rollouts * step.completion * per_token
    # One layer of the prefilling pass, without gradient; its end is over when the branches begin.
    positions = len(step.prompts) * step.longest
    prefill = positions * (3 * sizes.inner + 4 * sizes.hidden + 2 * sizes.query) * e
    logits = SAMPLED_COPIES * step.rollouts * sizes.vocabulary * 4
    tower = step.patches * (6 * sizes.vision + 3 * sizes.vision_inner) * e
    found = [
        Held(name="keys and values of prompts", phase="rollout", bytes=prefix, exact=True),
        Held(name="keys and values of completions", phase="rollout", bytes=branches, exact=True),
        Held(name="prefilling, logits", phase="rollout", bytes=max(prefill, tower, logits, branches // sizes.layers)),
    ]
    if config.backend.type == "deepspeed" and config.backend.zero_stage == 3 and setting.ranks > 1:
        found.append(Held(name="whole weights, gathered to sample", phase="rollout", bytes=sizes.weights, exact=True))
    return found


def _passes(config: Config, sizes: Sizes, step: Step, setting: Setting) -> list[Held]:
    if not (setting.needs_reference or config.train.minibatches > 1):
        return []

    def need(one: Pass) -> float:
        layer = one.positions * (3 * sizes.inner + 4 * sizes.hidden + 2 * sizes.query) * sizes.element
        tower = one.patches * (6 * sizes.vision + 3 * sizes.vision_inner) * sizes.element
        return max(layer, tower, _chunk(one) * sizes.vocabulary * 12)

    return [
        Held(name="one layer, head", phase="passes", bytes=_up(max(map(need, step.passes)))),
        *_gathered(config, sizes, setting, "passes"),
    ]


def _update(config: Config, sizes: Sizes, step: Step, setting: Setting) -> list[Held]:
    worst = max(step.passes, key=lambda one: _kept(config, sizes, one, setting) + head_bytes(sizes, one))
    kept = _kept(config, sizes, worst, setting)
    head = head_bytes(sizes, worst)
    layer = _transient(config, sizes, worst, setting)
    found = [
        Held(
            name="kept for backward: decoder", phase="update", bytes=_up(decoder_bytes(config, sizes, worst, setting))
        ),
        Held(
            name="kept for backward: tower", phase="update", bytes=_up(_tower_held(config, sizes, step, worst, setting))
        ),
        Held(name="features", phase="update", bytes=_features(sizes, step)),
    ]
    gradients, buckets = _gradients(config, sizes, setting)
    # One pass alone makes gradients as it gives back what was kept; later ones find them there.
    several = any(len(update) > 1 for update in step.updates) or config.backend.type == "deepspeed"
    growing = gradients if several else max(0, gradients - max(0, kept))
    found += [
        Held(
            name="the head's logits" if head >= layer else "one layer's gradients",
            phase="update",
            bytes=_up(max(head, layer)),
        ),
        Held(name="gradients", phase="update", bytes=_up(growing)),
        Held(name="DeepSpeed's buckets", phase="update", bytes=_up(buckets)),
        *_gathered(config, sizes, setting, "update"),
    ]
    return found


def _gradients(config: Config, sizes: Sizes, setting: Setting) -> tuple[float, float]:
    """(gradients of all that learns, buffers they travel in)."""
    if config.backend.type == "torch":
        return 4.0 * sizes.learning, 0.0
    stage, ranks = config.backend.zero_stage, setting.ranks
    bucket = min(BUCKET, sizes.learning) * sizes.element * (2 if setting.cuda else 1) if stage else 0
    if stage >= 2 and config.backend.offload_optimizer != "none" and setting.cuda:
        return 0.0, float(bucket)
    return 4.0 * sizes.learning / (ranks if stage >= 2 else 1), float(bucket)


def _optimiser(config: Config, sizes: Sizes, setting: Setting) -> list[Held]:
    gradients, _ = _gradients(config, sizes, setting)
    if config.backend.offload_optimizer != "none" and setting.cuda:
        made = 0.0
    elif setting.cuda:  # all parameters at a time
        spread = setting.ranks if config.backend.type == "deepspeed" and config.backend.zero_stage else 1
        made = 4.0 * sizes.learning / spread
    else:
        made = 2 * 4.0 * min(sizes.largest, sizes.learning)
    return [
        Held(name="gradients", phase="optimiser", bytes=_up(gradients)),
        Held(name="AdamW's intermediates", phase="optimiser", bytes=_up(made)),
    ]


def _gathered(config: Config, sizes: Sizes, setting: Setting, phase: Phase) -> list[Held]:
    """At stage 3: weights that are whole for the moment."""
    if config.backend.type != "deepspeed" or config.backend.zero_stage < 3 or setting.ranks == 1:
        return []
    layer = sizes.decoder.weights / sizes.layers
    numbers = min(sizes.parameters, sizes.largest + layer + PREFETCH)
    return [Held(name="weights gathered for use", phase=phase, bytes=_up(numbers * sizes.element))]


def layer_numbers(sizes: Sizes, setting: Setting) -> float:
    """What a decoder layer keeps for its backward, numbers per position."""
    kept = 4 * sizes.hidden + 2 * sizes.query + 2 * sizes.key + 4 * sizes.inner + sizes.heads + 2
    if sizes.norms:
        kept += sizes.query + sizes.key + sizes.head + 6
    if setting.cuda:
        kept += 2 * sizes.hidden * (2 if sizes.element == 2 else 1)
    return kept


def block_numbers(sizes: Sizes) -> float:
    """What a tower's block keeps, numbers per patch."""
    rule = TOWER.get(sizes.family, OTHER_TOWER)
    return rule.width * sizes.vision + rule.inner * sizes.vision_inner + SUMS


def decoder_bytes(config: Config, sizes: Sizes, one: Pass, setting: Setting) -> float:
    """What a pass keeps of the decoder for its backward."""
    own = layer_numbers(sizes, setting)
    lora = _adapter_numbers(config, sizes)
    layers = sizes.layers * sizes.hidden if config.backend.gradient_checkpointing else sizes.layers * (own + lora)
    return one.positions * (layers + (3 if sizes.norms else 2) * sizes.hidden) * sizes.element


def _adapter_numbers(config: Config, sizes: Sizes) -> float:
    """Per position and layer: the inner rank of each adapter, in float32; their inputs are kept anyway, or (bfloat16)
    once more in float32.
    """
    lora = config.train.lora
    if lora is None:
        return 0.0
    inputs = 2 * sizes.hidden + sizes.query + sizes.inner if sizes.element == 2 else 0
    return (7 * lora.rank + inputs) * 4 / sizes.element


def tower_bytes(config: Config, sizes: Sizes, patches: int) -> float:
    """What the tower keeps for its backward."""
    rule = TOWER.get(sizes.family, OTHER_TOWER)
    blocks = sizes.depth * (sizes.vision if config.backend.gradient_checkpointing else block_numbers(sizes))
    return patches * (blocks + rule.around * sizes.vision) * sizes.element


def head_bytes(sizes: Sizes, one: Pass) -> float:
    """Hidden states that are scored, and one chunk's logits with what its backward makes of them."""
    per_logit = 12 if sizes.element == 4 else 14
    picked = one.scored * sizes.hidden * sizes.element
    return _chunk(one) * sizes.vocabulary * per_logit + 3 * picked


def _chunk(one: Pass) -> int:
    return math.ceil(one.scored / max(1, math.ceil(one.scored / HEAD_CHUNK)))


def _kept(config: Config, sizes: Sizes, one: Pass, setting: Setting) -> float:
    tower = tower_bytes(config, sizes, one.patches) if sizes.tower_learns else 0.0
    return decoder_bytes(config, sizes, one, setting) + tower


def _tower_held(config: Config, sizes: Sizes, step: Step, one: Pass, setting: Setting) -> float:
    """Plain torch in one process keeps the graph of as many pictures of the step as a gibibyte holds."""
    if not sizes.tower_learns:
        return 0.0
    alone = config.backend.type == "torch" and setting.ranks == 1 and not config.backend.gradient_checkpointing
    held = min(HELD_BYTES, tower_bytes(config, sizes, step.patches)) if alone else 0.0
    return max(held, tower_bytes(config, sizes, one.patches))


def _transient(config: Config, sizes: Sizes, one: Pass, setting: Setting) -> float:
    """What the backward of one layer makes; with checkpointing, that layer whole as well."""
    layer = 2 * sizes.inner + sizes.hidden
    if config.backend.gradient_checkpointing:
        layer += round(layer_numbers(sizes, setting))
    decoder = one.positions * layer * sizes.element
    if not sizes.tower_learns:
        return decoder
    block = 2 * sizes.vision_inner + sizes.vision
    if config.backend.gradient_checkpointing:
        block += round(block_numbers(sizes))
    return max(decoder, one.patches * block * sizes.element)


def _features(sizes: Sizes, step: Step) -> int:
    """Of all pictures of the step."""
    whole = step.visual * sizes.hidden * sizes.element * sizes.levels
    return min(FROZEN_BYTES, whole)


def _up(value: float) -> int:
    return math.ceil(value)
