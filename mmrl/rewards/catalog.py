"""Every reward by its name. Importing this loads no heavy package; those are imported by the rewards that use them."""

from __future__ import annotations

from typing import Any

from mmrl.errors import ConfigError, RewardError, unknown_name
from mmrl.rewards.choice import Choice, MultiChoice
from mmrl.rewards.format import Format
from mmrl.rewards.reward import Reward
from mmrl.types import Completion, Sample, Score

REWARDS: dict[str, Reward] = {
    "format": Reward(
        function=Format(),
        summary="each asked tag encloses something, once, in order",
        kind="format",
    ),
    "choice": Reward(
        function=Choice(),
        summary="names the right option and no other, by letter or text",
        kind="accuracy",
        answers=("choice",),
    ),
    "multi_choice": Reward(
        function=MultiChoice(),
        summary="share of the right options named; 0 with a wrong one (TW-GRPO)",
        kind="accuracy",
        answers=("choices", "choice"),
    ),
}


def reward(name: str, /, **options: Any) -> Reward:
    """A reward of the catalogue, with `options` in place of its defaults."""
    if name not in REWARDS:
        raise ConfigError(unknown_name("reward", name, REWARDS))
    return REWARDS[name].with_options(options, name=name)


def score(name: str, completion: str | Completion, sample: Sample, /, **options: Any) -> Score:
    """Score one completion here and now, without time limit.

    Example:
        score("choice", "<think>it curls</think><answer>B</answer>", sample).value
    """
    chosen = reward(name, **options)
    chosen.verify(sample, name=name)
    if chosen.needs_frames:
        raise RewardError(f"reward {name!r} asks for decoded frames; score it with a RewardScorer that can load them.")
    if isinstance(completion, str):
        completion = Completion(text=completion)
    return chosen.checked(chosen.function(completion, sample))
