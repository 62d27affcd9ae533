"""Samples, completions and groups for the reward tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrl.types import Answer, Completion, Prompt, Rollout, RolloutGroup, Sample


def sample(type: Any, value: Any, **fields: Any) -> Sample:
    """A sample with this answer; `unit`, `space` go into the answer, everything else into the sample."""
    answer = Answer(type=type, value=value, unit=fields.pop("unit", None), space=fields.pop("space", "pixels"))
    return Sample(**{"id": "s1", "task": "t", "question": "?", "answer": answer, **fields})


def said(answer: str, reasoning: str = "I look.") -> Completion:
    """A completion in think/answer form."""
    return Completion(text=f"<think>{reasoning}</think><answer>{answer}</answer>", token_count=8)


def group(sample: Sample, texts: Sequence[str]) -> RolloutGroup:
    rollouts = tuple(
        Rollout(
            completion=Completion(text=text, token_count=max(1, len(text))),
            token_ids=(1,),
            behavior_logprobs=(-0.5,),
            policy_logprobs=(-0.5,),
            index=index,
            seed=index,
            policy_version=0,
        )
        for index, text in enumerate(texts)
    )
    return RolloutGroup(prompt=Prompt(sample=sample, text="", token_ids=(1,)), rollouts=rollouts)
