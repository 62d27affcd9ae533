"""Sampling with vLLM in the trainer's process, on its GPU: asleep while the policy updates."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmrl.errors import ConfigError
from mmrl.policy.policy import Policy
from mmrl.rollout.asked import Asker
from mmrl.rollout.certain_text import CertainText
from mmrl.rollout.completions import banned_ids, end_ids, rollout_groups
from mmrl.rollout.engine import Sampling
from mmrl.rollout.vllm_inputs import FAMILIES
from mmrl.rollout.vllm_sampler import VllmSampler, VllmSettings
from mmrl.types import Prompt, RolloutGroup


class VllmEngine:
    """Samples from copies of the policy's weights that vLLM holds. Nothing is sampled before `load_weights`."""

    def __init__(self, policy: Policy, tokenizer: Any, *, run_seed: int, sampler: VllmSampler) -> None:
        self._asker = Asker(policy.family, policy.config, run_seed=run_seed)
        self._tokenizer = tokenizer
        self._end = end_ids(policy, tokenizer)
        self._sampler = sampler
        self._version = 0
        self._checked = False

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        if not prompts:
            return []
        counts = list(sizes) if sizes is not None else [sampling.group_size] * len(prompts)
        asked = self._asker.ask(prompts, counts, sampling, step=step)
        return rollout_groups(
            prompts,
            self._sampler.sample(asked, sampling),
            [ask.seeds for ask in asked],
            tokenizer=self._tokenizer,
            end=self._end,
            sampling=sampling,
            version=self._version,
        )

    def stream_group(
        self, prompt: Prompt, sampling: Sampling, *, step: int = 0, on_text: Callable[[int, str], None]
    ) -> RolloutGroup:
        """One group, the same that `generate` gives; `on_text` as of `TransformersEngine.stream_group`."""
        asked = self._asker.ask([prompt], [sampling.group_size], sampling, step=step)
        text = CertainText(self._tokenizer, end=self._end, group_size=sampling.group_size, on_text=on_text)
        [group] = rollout_groups(
            [prompt],
            self._sampler.sample(asked, sampling, watch=text.show),
            [ask.seeds for ask in asked],
            tokenizer=self._tokenizer,
            end=self._end,
            sampling=sampling,
            version=self._version,
        )
        text.finish(group)
        return group

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        self._sampler.load_weights(weights, check=not self._checked)
        self._checked = True
        self._version = version

    def rest(self) -> None:
        """Give the GPU's memory back until the next use."""
        self._sampler.rest()

    def close(self) -> None:
        """End vLLM."""
        self._sampler.close()


def start_sampler(policy: Policy, processor: Any, settings: VllmSettings) -> VllmSampler:
    """vLLM for this policy's architecture, without its weights. Raises ConfigError where it is not installed."""
    with tempfile.TemporaryDirectory(prefix="mmrl-vllm-") as folder:
        write_architecture(policy, processor, Path(folder))
        return VllmSampler(
            Path(folder),
            settings,
            banned=banned_ids(policy, processor.tokenizer),
            end=end_ids(policy, processor.tokenizer),
        )


def write_architecture(policy: Policy, processor: Any, folder: Path) -> None:
    """What vLLM reads of a model before it has weights: config and processor."""
    if policy.family.name not in FAMILIES:
        raise ConfigError(
            f"rollout.engine: vLLM is not fed models of family {policy.family.name} (it is: {', '.join(FAMILIES)}). "
            "Take rollout.engine: transformers."
        )
    policy.config.save_pretrained(folder)
    processor.save_pretrained(folder)
