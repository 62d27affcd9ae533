"""A user's own reward: short is good."""

from mmrl.types import Completion, Sample


def short(completion: Completion, sample: Sample) -> float:
    """1 for an empty text, 0 from 40 characters on."""
    return max(0.0, 1.0 - len(completion.text) / 40)
