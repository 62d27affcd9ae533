"""An engine that says what it is told to: for tests of everything that comes after sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from mmrl.rollout.engine import Sampling
from mmrl.rollout.seeds import rollout_seed
from mmrl.types import Completion, FinishReason, Prompt, Rollout, RolloutGroup, Sample

if TYPE_CHECKING:
    from torch import Tensor

Script = Callable[[Sample, int], str]  # (sample, index in group) → completion text


class ScriptedEngine:
    """Each completion is `script(sample, index)`, one token per byte, every log-probability −0.5.

    A text longer than `sampling.max_tokens` bytes is cut there, with finish reason LENGTH, as a real engine would.
    """

    def __init__(self, script: Script, *, run_seed: int = 0) -> None:
        self._script = script
        self._run_seed = run_seed
        self._version = 0

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        return [
            RolloutGroup(
                prompt=prompt,
                rollouts=tuple(self._rollout(prompt, sampling, step, sampling.first_index + i) for i in range(size)),
            )
            for prompt, size in zip(prompts, sizes or [sampling.group_size] * len(prompts), strict=True)
        ]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        self._version = version

    def _rollout(self, prompt: Prompt, sampling: Sampling, step: int, index: int) -> Rollout:
        written = self._script(prompt.sample, index).encode() + b"\x00"  # the zero byte plays the end token
        tokens = tuple(written[: sampling.max_tokens])
        finished = len(written) <= sampling.max_tokens
        return Rollout(
            completion=Completion(
                text=bytes(tokens[:-1] if finished else tokens).decode(errors="replace"),
                token_count=len(tokens),
                finish_reason=FinishReason.STOP if finished else FinishReason.LENGTH,
                views=prompt.views,
            ),
            token_ids=tokens,
            behavior_logprobs=(-0.5,) * len(tokens),
            policy_logprobs=(-0.5,) * len(tokens),
            index=index,
            seed=rollout_seed(self._run_seed, sampling.purpose, step, prompt.sample.id, index),
            policy_version=self._version,
        )
