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

from mmrl.backend.backend import TrainBackend
from mmrl.curriculum.shuffled import Shuffled
from mmrl.errors import DataError, RunError
from mmrl.policy.forms import Mode, target_text
from mmrl.progress import Progress
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
) -> None:
    """Run all steps. Asked to stop it raises KeyboardInterrupt or Terminated: it is short and begins again."""
    chosen = Shuffled(samples, seed=settings.seed).next(min(settings.samples or len(samples), len(samples)))
    sampler = Shuffled(chosen, seed=settings.seed + 1)
    random = np.random.default_rng([settings.seed, 2])
    with StopRequest(progress.note) as stop, progress.task("cold start", settings.steps) as task:
        for step in range(settings.steps):
            count = min(settings.samples_per_step, len(chosen))
            prompts, dropped = renderer.render(sampler.next(count))
            if isinstance(renderer, PreparesAhead):
                renderer.prepare(sampler.peek(count) if step + 1 < settings.steps else [])
            if not prompts:
                raise DataError(f"cold start: no sample of step {step} can be used: {dropped[0].detail}")
            thoughts = [settings.thoughts[int(random.integers(len(settings.thoughts)))] for _ in prompts]
            groups = [_target(p, t, settings.mode, tokenizer) for p, t in zip(prompts, thoughts, strict=True)]
            tokens = sum(len(g.rollouts[0].token_ids) for g in groups)
            total = 0.0
            for parts in backend.micro_batches(groups):
                outputs, packed = backend.forward(parts)
                loss = -masked_sum(outputs.logprobs, packed.mask).sum() / tokens
                backend.backward(loss)
                total += float(loss.detach())
            if not math.isfinite(total):
                raise RunError(f"cold start, step {step}: the loss is not finite. Lower sft.learning_rate.")
            norm, rate = backend.optimizer_step()
            if not math.isfinite(norm):
                raise RunError(f"cold start, step {step}: the gradient is not finite. Lower sft.learning_rate.")
            log(step, {"sft/loss": total, "optim/grad_norm": norm, "optim/learning_rate": rate})
            task.advance(1, loss=round(total, 3))
            if stop.terminated:
                raise Terminated
            if stop.requested:
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
