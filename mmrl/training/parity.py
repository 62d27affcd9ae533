"""The gate at a run's start: does the engine sample from the policy that is trained, and does either see its pictures?

    ask        the engine briefly answers the first samples of each kind: text, image, several images, video, both
    parity     the trainer reads its tokens again; their log-probabilities have to be alike
    pixels     each picture is replaced by noise (`policy/scrambled.py`): the same tokens must get another likelihood
               from the trainer, and the same seeds another answer, or at least other log-probabilities, from the engine

An engine with the wrong weights, shifted tokens, other positions or no pictures does not raise: it trains, on rollouts
of another model. Nothing here draws from the run's randomness: rollouts have seeds of their own purpose, noise its own
generator. What the gate leaves in the engine's caches has to be dropped by loading the weights once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from mmrl.batch import PolicyOutputs
from mmrl.errors import RunError
from mmrl.policy.scrambled import scrambled
from mmrl.ranks import ALONE, Ranks
from mmrl.rollout.engine import LosesGroups, RolloutEngine, Sampling
from mmrl.training.collect import Renderer
from mmrl.types import Prompt, RolloutGroup, Sample

SAMPLES, ANSWERS, TOKENS = 2, 2, 24  # of each kind, of each sample, of each answer
CANDIDATES = 5  # samples of a kind that are tried until so many can be shown
MOST_ITEMS = 8  # pictures and clips of one sample that are replaced, one after the other
SHOWN = 4  # worst tokens in the message
NOISE = 2.0  # a change has to exceed what repeating the same question changes, by this factor
PURPOSE = "parity"  # enters the seeds


class Reads(Protocol):
    """Of a backend: the trained policy's log-probabilities of given tokens."""

    def outputs(self, groups: Sequence[RolloutGroup]) -> PolicyOutputs: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityGate:
    """What is asked, and how far apart engine and trainer may be."""

    engine: str  # its name in the config, for messages
    samples: Sequence[Sample]  # of the run, in its order
    sampling: Sampling  # the run's
    threshold: float  # nats: of the mean |engine's − trainer's log-probability| over a sample's tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """One sampled token and what both say of it."""

    rollout: int
    position: int
    token_id: int
    engine: float
    trainer: float

    @property
    def gap(self) -> float:
        gap = abs(self.engine - self.trainer)
        return gap if math.isfinite(gap) else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """One sample's verdicts."""

    sample: str
    kind: str
    tokens: tuple[_Token, ...]
    trainer_noise: float  # nats: largest change of a token when the trainer reads the same again
    trainer_changes: tuple[float, ...]  # nats, per picture or clip: largest change when it is noise
    engine_sees: bool  # whether any change at all came of asking it with noise; True without pictures

    @property
    def gap(self) -> float:
        return sum(token.gap for token in self.tokens) / len(self.tokens)

    @property
    def blind(self) -> int | None:
        """The first item that does not reach the trainer's model."""
        unseen = [i for i, change in enumerate(self.trainer_changes) if change <= NOISE * self.trainer_noise]
        return unseen[0] if unseen else None


def kind_of(sample: Sample) -> str:
    """What a sample shows: "text", "image", "several images", "video", "images and video"."""
    images = sum(media.type == "image" for media in sample.media)
    if images == len(sample.media):
        return ("text", "image")[images] if images < 2 else "several images"
    return "images and video" if images else "video"


def pass_gate(
    gate: ParityGate,
    *,
    engine: RolloutEngine,
    backend: Reads,
    renderer: Renderer,
    decode: Callable[[Sequence[int]], str],
    step: int,
    ranks: Ranks = ALONE,
) -> str:
    """One line about how well they agree. Raises RunError where engine and trainer differ by more than the threshold,
    or where a picture reaches one of them not at all. All ranks call it together, each with its own engine.
    """
    prompts = _prompts(gate.samples, renderer)
    everyone = ranks.gather(_probe(gate, prompts, engine=engine, backend=backend, step=step, ranks=ranks))
    for rank, (found, lost) in enumerate(everyone):
        where = f" (rank {rank})" if ranks.several else ""
        if prompts and not found:
            raise RunError(f"rollout.engine {gate.engine}{where} answered none of the first samples: {'; '.join(lost)}")
        _refuse(gate, found, decode, where)
    return _line(gate, [one for found, _ in everyone for one in found])


def _prompts(samples: Sequence[Sample], renderer: Renderer) -> list[Prompt]:
    """The first samples of each kind whose media can be used."""
    candidates: dict[str, list[Sample]] = {}
    for sample in samples:
        of_kind = candidates.setdefault(kind_of(sample), [])
        if len(of_kind) < CANDIDATES:
            of_kind.append(sample)
    found = []
    for of_kind in candidates.values():
        shown: list[Prompt] = []
        for sample in of_kind:
            shown += renderer.render([sample])[0] if len(shown) < SAMPLES else []
        found += shown
    return found


def _probe(
    gate: ParityGate, prompts: Sequence[Prompt], *, engine: RolloutEngine, backend: Reads, step: int, ranks: Ranks
) -> tuple[list[_Probed], list[str]]:
    """What every sample that was answered shows, and why others were not."""
    brief = replace(
        gate.sampling, group_size=ANSWERS, max_tokens=min(TOKENS, gate.sampling.max_tokens), purpose=PURPOSE
    )

    def ask(asked: Sequence[Prompt]) -> dict[str, RolloutGroup]:
        return {group.prompt.sample.id: group for group in engine.generate(asked, brief, step=step)}

    answered = ask(prompts)
    groups = list(answered.values())
    shown = [group.prompt for group in groups if group.prompt.vision is not None]
    again, blurred = ask(shown), ask([_all_scrambled(prompt) for prompt in shown])
    lost = engine.take_dropped() if isinstance(engine, LosesGroups) else []
    now = _by_sample(backend, groups)
    repeated = _by_sample(backend, groups)
    changes: dict[str, list[float]] = {name: [] for name in answered}
    rounds = max((_items(group.prompt) for group in groups), default=0)
    for item in range(int(ranks.most([rounds])[0])):
        noisy = [replace(g, prompt=scrambled(g.prompt, item)) for g in groups if item < _items(g.prompt)]
        for name, values in _by_sample(backend, noisy).items():
            changes[name].append(_largest(values - now[name]))
    probed = [
        _Probed(
            sample=name,
            kind=kind_of(group.prompt.sample),
            tokens=_tokens(group, now[name]),
            trainer_noise=_largest(repeated[name] - now[name]),
            trainer_changes=tuple(changes[name]),
            engine_sees=name not in again or name not in blurred or _sees(group, again[name], blurred[name]),
        )
        for name, group in answered.items()
    ]
    return probed, list(dict.fromkeys(drop.detail or drop.reason for drop in lost))


def _items(prompt: Prompt) -> int:
    return 0 if prompt.vision is None else min(MOST_ITEMS, len(prompt.vision.grids))


def _all_scrambled(prompt: Prompt) -> Prompt:
    for item in range(len(prompt.vision.grids) if prompt.vision is not None else 0):
        prompt = scrambled(prompt, item)
    return prompt


def _by_sample(backend: Reads, groups: Sequence[RolloutGroup]) -> dict[str, Tensor]:
    """Sample id → the trainer's log-probabilities of all its answers' tokens, one after the other."""
    rows = iter(backend.outputs(groups).logprobs.detach().cpu().double())
    return {
        group.prompt.sample.id: torch.cat([next(rows)[: len(rollout.token_ids)] for rollout in group.rollouts])
        for group in groups
    }


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def _tokens(group: RolloutGroup, trainer: Tensor) -> tuple[_Token, ...]:
    flat = [
        (rollout.index, position, token_id, said)
        for rollout in group.rollouts
        for position, (token_id, said) in enumerate(zip(rollout.token_ids, rollout.policy_logprobs, strict=True))
    ]
    return tuple(
        _Token(rollout=rollout, position=position, token_id=token_id, engine=said, trainer=value)
        for (rollout, position, token_id, said), value in zip(flat, trainer.tolist(), strict=True)
    )


def _sees(first: RolloutGroup, again: RolloutGroup, blurred: RolloutGroup) -> bool:
    """Whether noise in the place of the pictures changed an engine's answers by more than asking again did."""
    repeated, changed = _change(first, again), _change(first, blurred)
    return changed > NOISE * repeated if math.isfinite(repeated) else True


def _change(one: RolloutGroup, other: RolloutGroup) -> float:
    """Largest difference of a token's log-probability; infinite where tokens differ."""
    pairs = list(zip(one.rollouts, other.rollouts, strict=True))
    if any(a.token_ids != b.token_ids for a, b in pairs):
        return math.inf
    return max(abs(x - y) for a, b in pairs for x, y in zip(a.policy_logprobs, b.policy_logprobs, strict=True))


def _refuse(gate: ParityGate, found: Sequence[_Probed], decode: Callable[[Sequence[int]], str], where: str) -> None:
    """Raise what is wrong, if anything is."""
    apart = [one for one in found if not one.gap <= gate.threshold]
    if apart:
        worst = max(apart, key=lambda one: one.gap)
        tokens = sorted(worst.tokens, key=lambda token: -token.gap)[:SHOWN]
        told = "; ".join(
            f"answer {t.rollout}, token {t.position} {decode([t.token_id])!r}: engine {t.engine:.4g}, trainer "
            f"{t.trainer:.4g}"
            for t in tokens
        )
        kinds = ", ".join(f"{one.kind} {one.gap:.2g}" for one in found)
        raise RunError(
            f"rollout.engine {gate.engine}{where} does not sample from the policy that is trained. On sample "
            f"{worst.sample!r} ({worst.kind}) their log-probabilities of the same tokens are {worst.gap:.3g} nats "
            f"apart on average; rollout.parity_threshold is {gate.threshold:g}. Worst tokens: {told}. By kind: "
            f"{kinds}. If only pictures or clips differ, the engine sees them otherwise; if all do, its weights or its "
            "number format (rollout.vllm.dtype) are others. Take rollout.engine: transformers, or another vLLM "
            "(docs/rollouts.md); raise the threshold only if rounding explains it. More to try: "
            "docs/failures/engine-mismatch.md."
        )
    for one in found:
        if one.blind is not None:
            raise RunError(
                f"item {one.blind + 1} of sample {one.sample!r} ({one.kind}) does not reach the trained model{where}: "
                "with noise in place of its pixels every token of the answer is as likely as before. Training would "
                "reward guessing. See that the model's weights hold its vision tower and that model.path is a model "
                "mmrl knows (mmrl list families)."
            )
        if not one.engine_sees:
            raise RunError(
                f"rollout.engine {gate.engine}{where} does not see the pictures of sample {one.sample!r} ({one.kind}): "
                "with noise in place of their pixels it answers the same, token for token and to the same "
                "log-probabilities. Take rollout.engine: transformers, or another vLLM (docs/rollouts.md)."
            )


def _line(gate: ParityGate, found: Sequence[_Probed]) -> str:
    if not found:
        return f"parity: no sample could be shown to {gate.engine}, so nothing was compared"
    tokens = [token for one in found for token in one.tokens]
    kinds = ", ".join(dict.fromkeys(one.kind for one in found))
    mean, largest = sum(token.gap for token in tokens) / len(tokens), max(token.gap for token in tokens)
    line = (
        f"parity: {gate.engine} and the trainer are {mean:.1e} nats per token apart (largest {largest:.1e}; threshold "
        f"{gate.threshold:g}) on {len(tokens)} tokens of {kinds}"
    )
    changes = [change for one in found for change in one.trainer_changes]
    return line + (f"; noise for pixels moves them by {min(changes):.1e} or more" if changes else "")
