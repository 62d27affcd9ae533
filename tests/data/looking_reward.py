"""A user's reward that looks at the picture: is its width what the completion says?"""

from collections.abc import Sequence
from typing import Any

from mmrl.rewards.reward import Reward
from mmrl.types import Completion, Sample, Score


def width(completion: Completion, sample: Sample, *, frames: Sequence[Any]) -> Score:
    """1 where the text is the first picture's width in pixels."""
    return Score(value=float(completion.text == str(frames[0].width)))


REWARD = Reward(
    function=width,  # type: ignore[arg-type]  # it is called with frames=, as needs_frames says
    summary="the picture's width",
    kind="accuracy",
    in_process=False,
    needs_frames=True,
)
