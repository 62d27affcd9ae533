"""A user's own rewards, which an untrained policy sometimes earns: short is good, an even length is right."""

from mmrl.rewards.reward import Reward
from mmrl.types import Completion, Sample, Score


def short(completion: Completion, sample: Sample) -> float:
    """1 for an empty text, 0 from 40 characters on."""
    return max(0.0, 1.0 - len(completion.text) / 40)


def is_even(completion: Completion, sample: Sample) -> Score:
    return Score(value=float(len(completion.text) % 2 == 0))


EVEN = Reward(function=is_even, summary="an even number of characters", kind="accuracy")
