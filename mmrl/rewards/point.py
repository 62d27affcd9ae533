"""Points: inside a box, or near a point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.coordinates import gold_points, read_point, said_point, verify_box, verify_numbers, view_of
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class PointInBox:
    """1 where the one answered point (or the centre of the one answered box) lies in a gold box, else 0.

    Edges belong to the box (ScreenSpot); with `strict` they do not (GUI-R1, arXiv:2504.10458).
    """

    strict: bool = False
    media: int = 0
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type not in ("box", "boxes"):
            raise wrong_type(sample, "point_in_box", "box, boxes")
        answer = answer_text(completion, self.answer_tag)
        point = None if answer is None else read_point(answer)
        if point is None:
            return unanswered(completion, "one point", self.answer_tag)
        view = view_of(completion, self.media)
        x, y = said_point(point, view)
        golds = [sample.answer.value] if sample.answer.type == "box" else sample.answer.value
        inside = any(self._inside(x, y, gold_points(gold, sample, view)) for gold in golds)
        return Score(value=float(inside), details={"point": (x, y)})

    def verify(self, sample: Sample) -> None:
        for box in [sample.answer.value] if sample.answer.type == "box" else sample.answer.value:
            verify_box(sample, box)

    def gold(self, sample: Sample) -> str:
        """The centre of the first gold box."""
        x1, y1, x2, y2 = sample.answer.value if sample.answer.type == "box" else sample.answer.value[0]
        return f"[{(x1 + x2) / 2}, {(y1 + y2) / 2}]"

    def _inside(self, x: float, y: float, box: tuple[float, ...]) -> bool:
        if self.strict:
            return box[0] < x < box[2] and box[1] < y < box[3]
        return box[0] <= x <= box[2] and box[1] <= y <= box[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDistance:
    """How near the one answered point is to the gold point: d is their distance in the space of comparison (pixels of
    the original picture, or the answer's own space where the policy speaks it).

    - linear: max(0, 1 − d / reach)
    - step: 1 where d < reach, else 0. GUI-R1, arXiv:2504.10458: reach 140 pixels.
    """

    reach: float = 140.0
    shape: Literal["linear", "step"] = "linear"
    media: int = 0
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.shape not in ("linear", "step") or not self.reach > 0:
            raise ConfigError("reward 'point_distance': shape must be 'linear' or 'step', reach above 0.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type != "point":
            raise wrong_type(sample, "point_distance", "point")
        answer = answer_text(completion, self.answer_tag)
        point = None if answer is None else read_point(answer)
        if point is None:
            return unanswered(completion, "one point", self.answer_tag)
        view = view_of(completion, self.media)
        x, y = said_point(point, view)
        gold = gold_points(sample.answer.value, sample, view)
        distance = math.hypot(x - gold[0], y - gold[1])
        value = float(distance < self.reach) if self.shape == "step" else max(0.0, 1.0 - distance / self.reach)
        return Score(value=value, details={"point": (x, y), "distance": distance})

    def verify(self, sample: Sample) -> None:
        verify_numbers(sample, sample.answer.value, 2)
