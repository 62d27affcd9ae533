"""A reward that an untrained policy gets about half the time."""

from mmrl.types import Completion, Sample


def even(completion: Completion, sample: Sample) -> float:
    """1 for a text of even length."""
    return float(len(completion.text) % 2 == 0)
