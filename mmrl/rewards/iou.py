"""One box: intersection over union, plain, at thresholds, and generalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.errors import ConfigError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.coordinates import Box, gold_points, read_boxes, said_box, verify_box, view_of
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

_ONE_BOX = "one box x1, y1, x2, y2 with x1 < x2 and y1 < y2"


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """|a ∩ b| / |a ∪ b| of two boxes with area, in continuous coordinates (no pixel is added). Symmetric.

    Example: [0, 0, 10, 10] and [5, 5, 15, 15]: 25 / 175.
    """
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if width <= 0.0 or height <= 0.0:
        return 0.0
    overlap = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    return (overlap / union if overlap < union else 1.0) if union > 0.0 else 0.0


def giou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU − (|hull| − |a ∪ b|) / |hull|, in (−1, 1]. arXiv:1902.09630."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    if union <= 0.0 or hull <= 0.0:
        return -1.0
    return max(-1.0, min(1.0, overlap / union - (hull - union) / hull))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxIoU:
    """IoU of the one box in the answer with the gold box; with `thresholds`, the share of them that it reaches.

    No box, several boxes or an invalid one give 0. Example: thresholds [0.5] is the reward whose mean is Acc@0.5.
    arXiv:2504.07615, whose code reads integers only and loses overlaps of one pixel.
    """

    thresholds: tuple[float, ...] = ()
    media: int = 0  # which media item the box is on, where the policy's coordinates are converted
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        check_thresholds("iou", self.thresholds)

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        pair = compared_boxes(completion, sample, self.media, self.answer_tag, "iou")
        if pair is None:
            return unanswered(completion, _ONE_BOX, self.answer_tag)
        overlap = iou(*pair)
        value = reached(overlap, self.thresholds) if self.thresholds else overlap
        return Score(value=value, details={"iou": overlap, "box": pair[0]})

    def verify(self, sample: Sample) -> None:
        verify_box(sample, sample.answer.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxGIoU:
    """Generalised IoU of the one box in the answer: also tells how far apart boxes are that do not overlap.

    In [−1, 1]; no box, several boxes or an invalid one give −1. arXiv:1902.09630.
    """

    media: int = 0
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        pair = compared_boxes(completion, sample, self.media, self.answer_tag, "giou")
        if pair is None:
            return unanswered(completion, _ONE_BOX, self.answer_tag, value=-1.0)
        return Score(value=giou(*pair), details={"box": pair[0]})

    def verify(self, sample: Sample) -> None:
        verify_box(sample, sample.answer.value)


def compared_boxes(
    completion: Completion, sample: Sample, media: int, tag: str, reward: str
) -> tuple[Box, tuple[float, ...]] | None:
    """The answered box and the gold box in one space; None where the answer is not exactly one valid box."""
    if sample.answer.type != "box":
        raise wrong_type(sample, reward, "box")
    answer = answer_text(completion, tag)
    boxes = None if answer is None else read_boxes(answer)
    if not boxes or len(boxes) > 1 or not boxes[0].valid:
        return None
    view = view_of(completion, media)
    return said_box(boxes[0].box, view), gold_points(sample.answer.value, sample, view)


def reached(overlap: float, thresholds: Sequence[float]) -> float:
    """The share of thresholds that an overlap reaches."""
    return sum(overlap >= threshold for threshold in thresholds) / len(thresholds)


def check_thresholds(reward: str, thresholds: Sequence[float]) -> None:
    for threshold in thresholds:
        if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ConfigError(f"reward {reward!r}: thresholds hold {threshold!r}; each must be in (0, 1].")
