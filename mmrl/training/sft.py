"""The supervised cold start: imitates targets written in the asked form, before any reward is given.

loss = −Σ log π(target token) / number of target tokens of the step. The targets run through the same packed forward as
rollouts, each the single completion of its prompt. With `preference_beta` it prefers them to wrong ones instead: DPO,
`preference.py`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mmrl.backend.backend import TrainBackend
from mmrl.curriculum.shuffled import Shuffled
from mmrl.errors import DataError, RunError
from mmrl.policy.forms import Mode, in_words, target_text
from mmrl.progress import Progress
from mmrl.ranks import ALONE, Ranks
from mmrl.tensors import masked_sum
from mmrl.training.collect import PreparesAhead, Renderer
from mmrl.training.interrupt import StopRequest, Terminated
from mmrl.training.preference import accumulate, altered, sequence_logprobs
from mmrl.types import Completion, Prompt, Rollout, RolloutGroup, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartSettings:
    """How much of which data, and what the targets say."""

    steps: int
    samples: int | None  # only the first n of the shuffled samples; None: all
    samples_per_step: int
    thoughts: tuple[str, ...]  # one is drawn per target; `{answer}`: the answer in words, `{other}`: a wrong one
    mode: Mode
    seed: int
    preference_beta: float | None = None  # None: imitate; else DPO's β


def cold_start(
    samples: Sequence[Sample],
    *,
    renderer: Renderer,
    backend: TrainBackend,
    tokenizer: Any,
    settings: ColdStartSettings,
    log: Callable[[int, dict[str, float]], None],
    progress: Progress,
    ranks: Ranks = ALONE,
) -> None:
    """Run all steps. Asked to stop it raises KeyboardInterrupt or Terminated: it is short and begins again.

    With several ranks each imitates its share of a step's samples.
    """
    chosen = Shuffled(samples, seed=settings.seed).next(min(settings.samples or len(samples), len(samples)))
    sampler = Shuffled(chosen, seed=settings.seed + 1)
    random = np.random.default_rng([settings.seed, 2])
    pairs = None
    if settings.preference_beta is not None:
        pairs = _Pairs(settings, settings.preference_beta, tokenizer)
        pairs.read(chosen, renderer, backend)
    with StopRequest(progress.note) as stop, progress.task("cold start", settings.steps) as task:
        for step in range(settings.steps):
            count = min(settings.samples_per_step, len(chosen))
            samples_of_step = sampler.next(count)
            thoughts = {sample.id: drawn_thought(sample, settings.thoughts, random) for sample in samples_of_step}
            prompts, dropped = renderer.render(ranks.share(samples_of_step))
            if isinstance(renderer, PreparesAhead):
                renderer.prepare(ranks.share(sampler.peek(count)) if step + 1 < settings.steps else [])
            if not any(ranks.most([len(prompts)])):
                why = dropped[0].detail if dropped else "see what another rank says"
                raise DataError(f"cold start: no sample of step {step} can be used: {why}")
            if pairs is None:
                groups = [_group(p, [_target(p, thoughts[p.sample.id], settings.mode)], tokenizer) for p in prompts]
            else:
                groups = [pairs.group(p) for p in prompts]
            own = sum(len(rollout.token_ids) for g in groups for rollout in g.rollouts)
            tokens = float(backend.add_up(torch.tensor(float(own), dtype=torch.float64)))
            if pairs is None:
                total, measured = _imitate(backend, groups, tokens), {}
            else:
                total, preferred = accumulate(backend, groups, pairs.reference, beta=pairs.beta)
                measured = {"sft/preferred_fraction": preferred}
            if not math.isfinite(total):
                raise RunError(f"cold start, step {step}: the loss is not finite. Lower sft.learning_rate.")
            norm, rate = backend.optimizer_step()
            if not math.isfinite(norm):
                raise RunError(f"cold start, step {step}: the gradient is not finite. Lower sft.learning_rate.")
            if ranks.first:
                measured |= {"sft/loss": total, "sft/tokens": tokens}
                log(step, measured | {"optim/grad_norm": norm, "optim/learning_rate": rate})
            task.advance(1, loss=round(total, 3))
            asked_to_stop, terminated = map(any, zip(*ranks.gather((stop.requested, stop.terminated)), strict=True))
            if terminated:
                raise Terminated
            if asked_to_stop:
                raise KeyboardInterrupt


class _Pairs:
    """A right and a wrong completion of every sample, drawn once, and what the policy thought of them at first."""

    def __init__(self, settings: ColdStartSettings, beta: float, tokenizer: Any) -> None:
        self.beta = beta
        self.reference: dict[str, tuple[float, float]] = {}  # sample → log-probabilities of right and wrong
        self._settings = settings
        self._tokenizer = tokenizer

    def read(self, samples: Sequence[Sample], renderer: Renderer, backend: TrainBackend) -> None:
        """Every rank reads all of them: which samples it is given at which step is not known yet."""
        for start in range(0, len(samples), self._settings.samples_per_step):
            prompts, _ = renderer.render(samples[start : start + self._settings.samples_per_step])
            values = sequence_logprobs(backend, [self.group(prompt) for prompt in prompts]).tolist()
            for place, prompt in enumerate(prompts):
                self.reference[prompt.sample.id] = (values[2 * place], values[2 * place + 1])

    def group(self, prompt: Prompt) -> RolloutGroup:
        settings, sample = self._settings, prompt.sample
        random = np.random.default_rng([settings.seed, 3, zlib.crc32(sample.id.encode())])
        thought = drawn_thought(sample, settings.thoughts, random)
        wrong = replace(prompt, sample=altered(sample, random))
        texts = [_target(prompt, thought, settings.mode), _target(wrong, thought, settings.mode)]
        return _group(prompt, texts, self._tokenizer)


def _imitate(backend: TrainBackend, groups: Sequence[RolloutGroup], tokens: float) -> float:
    """Add the gradient of the step's targets; returns the loss. `tokens`: of all ranks."""
    total = 0.0
    for parts in backend.micro_batches(groups):
        outputs, packed = backend.forward(parts)
        mask = packed.mask[: len(packed.rows)]  # an idle micro-batch has a row of nobody's
        loss = -masked_sum(outputs.logprobs, mask).sum() / tokens
        backend.backward(loss)
        total += float(loss.detach())
    return float(backend.add_up(torch.tensor(total, dtype=torch.float64)))


def drawn_thought(sample: Sample, thoughts: Sequence[str], random: np.random.Generator) -> str:
    """One of `thoughts`, with a wrong answer in words for `{other}`; `{answer}` stays. DataError: see `altered`."""
    thought = thoughts[int(random.integers(len(thoughts)))]
    return thought.replace("{other}", in_words(altered(sample, random))) if "{other}" in thought else thought


def _target(prompt: Prompt, thought: str, mode: Mode) -> str:
    return target_text(prompt.sample, mode, thought, prompt.views)


def _group(prompt: Prompt, texts: Sequence[str], tokenizer: Any) -> RolloutGroup:
    """Completions that nobody sampled, with their end tokens."""
    return RolloutGroup(
        prompt=prompt, rollouts=tuple(_written(text, index, tokenizer) for index, text in enumerate(texts))
    )


def _written(text: str, index: int, tokenizer: Any) -> Rollout:
    ids = (*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id)
    return Rollout(
        completion=Completion(text=text, token_count=len(ids)),
        token_ids=ids,
        behavior_logprobs=(0.0,) * len(ids),  # not sampled from anything
        policy_logprobs=(0.0,) * len(ids),
        index=index,
        seed=0,
        policy_version=0,
    )
