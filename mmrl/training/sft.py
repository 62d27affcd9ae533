"""The supervised cold start: imitates targets written in the asked form, before any reward is given.

loss = −Σ log π(target token) / number of target tokens of the step. The targets run through the same packed forward as
rollouts, each the single completion of its prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmrl.backend.backend import TrainBackend
from mmrl.curriculum.shuffled import Shuffled
from mmrl.errors import DataError, RunError
from mmrl.policy.forms import Mode, target_text
from mmrl.progress import Progress
from mmrl.ranks import ALONE, Ranks
from mmrl.tensors import masked_sum
from mmrl.training.collect import PreparesAhead, Renderer
from mmrl.training.interrupt import StopRequest, Terminated
from mmrl.types import Completion, Prompt, Rollout, RolloutGroup, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartSettings:
    """How much of which data, and what the targets say."""

    steps: int
    samples: int | None  # only the first n of the shuffled samples; None: all
    samples_per_step: int
    thoughts: tuple[str, ...]  # one is drawn per target; `{answer}` stands for the answer in words
    mode: Mode
    seed: int


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
    with StopRequest(progress.note) as stop, progress.task("cold start", settings.steps) as task:
        for step in range(settings.steps):
            count = min(settings.samples_per_step, len(chosen))
            samples_of_step = sampler.next(count)
            thoughts = {s.id: settings.thoughts[int(random.integers(len(settings.thoughts)))] for s in samples_of_step}
            prompts, dropped = renderer.render(ranks.share(samples_of_step))
            if isinstance(renderer, PreparesAhead):
                renderer.prepare(ranks.share(sampler.peek(count)) if step + 1 < settings.steps else [])
            if not any(ranks.most([len(prompts)])):
                why = dropped[0].detail if dropped else "see what another rank says"
                raise DataError(f"cold start: no sample of step {step} can be used: {why}")
            groups = [_target(p, thoughts[p.sample.id], settings.mode, tokenizer) for p in prompts]
            own = sum(len(g.rollouts[0].token_ids) for g in groups)
            tokens = float(backend.add_up(torch.tensor(float(own), dtype=torch.float64)))
            total = 0.0
            for parts in backend.micro_batches(groups):
                outputs, packed = backend.forward(parts)
                mask = packed.mask[: len(packed.rows)]  # an idle micro-batch has a row of nobody's
                loss = -masked_sum(outputs.logprobs, mask).sum() / tokens
                backend.backward(loss)
                total += float(loss.detach())
            total = float(backend.add_up(torch.tensor(total, dtype=torch.float64)))
            if not math.isfinite(total):
                raise RunError(f"cold start, step {step}: the loss is not finite. Lower sft.learning_rate.")
            norm, rate = backend.optimizer_step()
            if not math.isfinite(norm):
                raise RunError(f"cold start, step {step}: the gradient is not finite. Lower sft.learning_rate.")
            if ranks.first:
                log(step, {"sft/loss": total, "optim/grad_norm": norm, "optim/learning_rate": rate})
            task.advance(1, loss=round(total, 3))
            asked_to_stop, terminated = map(any, zip(*ranks.gather((stop.requested, stop.terminated)), strict=True))
            if terminated:
                raise Terminated
            if asked_to_stop:
                raise KeyboardInterrupt


def _target(prompt: Prompt, thought: str, mode: Mode, tokenizer: Any) -> RolloutGroup:
    """A group of one: the completion that is imitated, with its end token."""
    text = target_text(prompt.sample, mode, thought, prompt.views)
    ids = (*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id)
    rollout = Rollout(
        completion=Completion(text=text, token_count=len(ids)),
        token_ids=ids,
        behavior_logprobs=(0.0,) * len(ids),  # not sampled from anything
        policy_logprobs=(0.0,) * len(ids),
        index=0,
        seed=0,
        policy_version=0,
    )
    return RolloutGroup(prompt=prompt, rollouts=(rollout,))
