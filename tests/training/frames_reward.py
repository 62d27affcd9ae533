"""A user's reward that looks at the frames: says which numbers they show (`tests/clips.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmrl.types import Completion, Sample, Score
from tests.clips import number_of

if TYPE_CHECKING:
    from PIL.Image import Image


def looks(completion: Completion, sample: Sample, *, frames: Sequence[Image]) -> Score:
    """1 for a text of even length; what was seen is in the details."""
    seen = [number_of(np.asarray(frame)) for frame in frames]
    return Score(value=float(len(completion.text) % 2 == 0), details={"seen": seen})
