"""What one rank's memory holds, part by part, and in which of a step's phases.

    always      weights, float32 masters, AdamW's memory, copies of the policy for the reference's rule, pixels
    rollout     keys and values, the prefilling pass, sampling; or vLLM's share of the GPU
    passes      old and reference log-probabilities
    update      what the forward pass keeps for the backward one, gradients, the head's chunk of logits
    optimiser   gradients, and what AdamW makes on the way

The most a phase needs comes on top of what is always there. What is always there is counted from shapes; of the other
phases `rehearsal.py` says what is alive when most is. By formula stay: what several ranks share and gather, vLLM, and
AdamW's intermediates on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mmrl.algorithms.reference import PRECISE, REFERENCE, Reference
from mmrl.config.schema import Config
from mmrl.forecast.rehearsal import Rehearsed
from mmrl.forecast.sizes import Sizes
from mmrl.forecast.step import Step
from mmrl.policy.render import CACHE_BYTES

GIB = 2**30
BUCKET = 200_000_000  # numbers that DeepSpeed moves at a time, at most
SUMMED = 64 * 2**20  # numbers that plain torch's ranks add up at a time
PREFETCH = 50_000_000  # numbers of the next layers' weights that are gathered early at stage 3
SCORES = 3  # tensors of the attention scores that a decoding step makes on a GPU

Phase = Literal["always", "rollout", "passes", "update", "optimiser"]
PHASES: tuple[Phase, ...] = ("always", "rollout", "passes", "update", "optimiser")

# What made it (`rehearsal.py`), in words.
MADE = {
    "rollout": {"tower": "the tower's graph or features", "decoder": "prefilling", "sampling": "sampling, ended rows"},
    "passes": {"tower": "the tower's graph or features"},
    "update": {
        "tower": "kept for backward: tower",
        "decoder": "kept for backward: decoder",
        "head": "the head's logits",
    },
}


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
    returns_blocks: bool  # on a processor: freed blocks go back at once (`build/backend.py`)


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


def memory_of(config: Config, sizes: Sizes, step: Step, setting: Setting, rehearsed: Rehearsed) -> Memory:
    """Of one rank; process, libraries and CUDA's context apart (`predict.py`)."""
    parts = [*_always(config, sizes, setting), *_media(config, sizes, step, setting)]
    parts += _rollout(config, sizes, step, setting, rehearsed)
    parts += _passes(config, sizes, setting, rehearsed)
    parts += _update(config, sizes, setting, rehearsed)
    parts += _optimiser(config, sizes, setting, rehearsed)
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
    exact = spread == 1
    found += [
        Held(name="float32 masters", phase="always", bytes=_up(masters), host=off_optimizer, exact=exact),
        Held(
            name="AdamW's memory",
            phase="always",
            bytes=_up(moments),
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


def _media(config: Config, sizes: Sizes, step: Step, setting: Setting) -> list[Held]:
    """Pixels: those of the step (and of the next, where that is sampled meanwhile), and those kept of earlier ones."""
    now = 4 * sizes.patch_values * step.patches
    shown = config.train.steps * len(step.prompts)
    distinct = min(shown, math.ceil(step.samples / setting.ranks)) if step.samples else shown
    kept = min(CACHE_BYTES, now * distinct // len(step.prompts))
    return [Held(name="pixels", phase="always", bytes=max(now * (1 + config.rollout.ahead), kept), host=setting.cuda)]


def _rollout(config: Config, sizes: Sizes, step: Step, setting: Setting, rehearsed: Rehearsed) -> list[Held]:
    rollout = config.rollout
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
    found = _made(rehearsed, "rollout")
    if setting.cuda:
        scores = SCORES * 4 * step.rollouts * sizes.heads * (step.longest + step.completion)
        found.append(Held(name="scores of a decoding step", phase="rollout", bytes=scores))
    if config.backend.type == "deepspeed" and config.backend.zero_stage == 3 and setting.ranks > 1:
        found.append(Held(name="whole weights, gathered to sample", phase="rollout", bytes=sizes.weights, exact=True))
    return found


def _passes(config: Config, sizes: Sizes, setting: Setting, rehearsed: Rehearsed) -> list[Held]:
    if not (setting.needs_reference or config.train.minibatches > 1):
        return []
    return [*_made(rehearsed, "passes"), *_gathered(config, sizes, setting, "passes")]


def _update(config: Config, sizes: Sizes, setting: Setting, rehearsed: Rehearsed) -> list[Held]:
    found = _made(rehearsed, "update")
    if config.backend.type == "deepspeed":
        gradients, buckets = _sharded_gradients(config, sizes, setting)
        found = [part for part in found if part.name != "gradients"]
        phase: Phase = "always" if config.backend.zero_stage == 3 else "update"  # stage 3 has both from the start
        found.append(Held(name="gradients", phase=phase, bytes=_up(gradients)))
        found.append(Held(name="DeepSpeed's buckets", phase=phase, bytes=_up(buckets)))
    elif setting.ranks > 1:
        bucket = 2 * 4 * min(SUMMED, sizes.learning)
        found.append(Held(name="gradients on their way to other ranks", phase="update", bytes=bucket))
    return [*found, *_gathered(config, sizes, setting, "update")]


def _sharded_gradients(config: Config, sizes: Sizes, setting: Setting) -> tuple[float, float]:
    """With DeepSpeed: (gradients of all that learns, buffers they travel in).

    Stage 1 moves the float32 sums, 2 and 3 what a micro-batch gave, in the weights' format; up to stage 2 one buffer
    is filled on a GPU while the other is on its way.
    """
    stage, ranks = config.backend.zero_stage, setting.ranks
    buffers = 2 if setting.cuda and stage < 3 else 1
    bucket = min(BUCKET, sizes.learning) * (4 if stage == 1 else sizes.element) * buffers if stage else 0
    if stage >= 2 and config.backend.offload_optimizer != "none" and setting.cuda:
        return 0.0, float(bucket)
    return 4.0 * sizes.learning / (ranks if stage >= 2 else 1), float(bucket)


def _optimiser(config: Config, sizes: Sizes, setting: Setting, rehearsed: Rehearsed) -> list[Held]:
    sharded = config.backend.type == "deepspeed"
    if not setting.cuda and not sharded:
        return _made(rehearsed, "optimiser")
    gradients = _sharded_gradients(config, sizes, setting)[0] if sharded else 4.0 * sizes.learning
    if config.backend.offload_optimizer != "none" and setting.cuda:
        made = 0.0
    else:  # all parameters at a time
        made = 4.0 * sizes.learning / (setting.ranks if sharded and config.backend.zero_stage else 1)
    return [
        Held(name="gradients", phase="optimiser", bytes=_up(gradients)),  # at stage 3 a copy of them
        Held(name="AdamW's intermediates", phase="optimiser", bytes=_up(made)),
    ]


def _gathered(config: Config, sizes: Sizes, setting: Setting, phase: Phase) -> list[Held]:
    """At stage 3: weights that are whole for the moment."""
    if config.backend.type != "deepspeed" or config.backend.zero_stage < 3 or setting.ranks == 1:
        return []
    layer = sizes.decoder.weights / sizes.layers
    numbers = min(sizes.parameters, sizes.largest + layer + PREFETCH)
    return [Held(name="weights gathered for use", phase=phase, bytes=_up(numbers * sizes.element))]


def _made(rehearsed: Rehearsed, phase: Phase) -> list[Held]:
    names = MADE.get(phase, {})
    found = rehearsed.phases.get(phase, {})
    return [Held(name=names.get(maker, maker), phase=phase, bytes=size) for maker, size in found.items()]


def _up(value: float) -> int:
    return math.ceil(value)
