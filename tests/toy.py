"""Small things tests are made of: samples, groups with given tokens, rewards and log-probabilities. No network."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mmrl.types import (
    Answer,
    Completion,
    FinishReason,
    Media,
    Prompt,
    RewardResult,
    Rollout,
    RolloutGroup,
    Sample,
    ScoredGroup,
)

if TYPE_CHECKING:
    from mmrl.policy.load import LoadedModel as LoadedModel
    from mmrl.rollout.vllm_sampler import VllmSettings


def noise_pictures(
    folder: Path, sizes: Sequence[tuple[int, int]] = ((56, 56), (120, 90), (60, 200), (31, 33))
) -> list[Path]:
    """PNG files of random pixels, one per (width, height)."""
    random = np.random.default_rng(0)
    paths = []
    for i, (width, height) in enumerate(sizes):
        path = folder / f"noise-{i}.png"
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def choice_sample(
    id_: str, pictures: Sequence[Path] = (), *, answer: str = "A", question: str = "Which one?"
) -> Sample:
    """A question with four options about the given pictures."""
    return Sample(
        id=id_,
        task="choice",
        question=question,
        media=tuple(Media(type="image", path=str(path)) for path in pictures),
        choices=("red", "green", "blue", "grey"),
        answer=Answer(type="choice", value=answer),
    )


def rollout(
    token_ids: Sequence[int],
    *,
    index: int = 0,
    logprobs: Sequence[float] | None = None,
    truncated: bool = False,
    text: str = "",
) -> Rollout:
    """A rollout with these tokens; every log-probability −1 unless given."""
    values = tuple(logprobs) if logprobs is not None else (-1.0,) * len(token_ids)
    return Rollout(
        completion=Completion(
            text=text,
            token_count=len(token_ids),
            finish_reason=FinishReason.LENGTH if truncated else FinishReason.STOP,
        ),
        token_ids=tuple(token_ids),
        behavior_logprobs=values,
        policy_logprobs=values,
        index=index,
        seed=index,
        policy_version=0,
    )


def text_prompt(id_: str, token_ids: Sequence[int] = (20, 21, 22)) -> Prompt:
    """A prompt without pictures."""
    return Prompt(sample=choice_sample(id_), text="", token_ids=tuple(token_ids))


def random_group(prompt: Prompt, *, size: int, seed: int, longest: int = 9, vocabulary: int = 448) -> RolloutGroup:
    """Completions of 1 to `longest` random tokens, vision placeholders among them."""
    random = np.random.default_rng(seed)
    rollouts = []
    for i in range(size):
        length = int(random.integers(1, longest + 1))
        rollouts.append(rollout([int(t) for t in random.integers(0, vocabulary, length)], index=i))
    return RolloutGroup(prompt=prompt, rollouts=tuple(rollouts))


def scored(group: RolloutGroup, totals: Sequence[float], *, accuracy: Sequence[float] | None = None) -> ScoredGroup:
    """A group with these totals; accuracy is 1 where the total is at least 1, unless given."""
    correct = tuple(accuracy) if accuracy is not None else tuple(float(t >= 1) for t in totals)
    return ScoredGroup(
        group=group,
        results=tuple({"choice": RewardResult(value=float(t), weight=1.0)} for t in totals),
        totals=tuple(float(t) for t in totals),
        accuracy=correct,
        format=(1.0,) * len(correct),
    )


def scored_lengths(id_: str, totals: Sequence[float], lengths: Sequence[int]) -> ScoredGroup:
    """A scored group whose completions have these lengths."""
    first = zlib.crc32(id_.encode())
    rollouts = tuple(replace(rollout([30 + i] * n, index=i), seed=first + i) for i, n in enumerate(lengths))
    return scored(RolloutGroup(prompt=text_prompt(id_), rollouts=rollouts), totals)


def vllm_settings() -> VllmSettings:
    """Small enough to stand beside other tests."""
    from mmrl.rollout.vllm_sampler import VllmSettings

    return VllmSettings(max_model_len=2048, cache_gib=0.25, threads=1)
