"""Counting by pointing: the answer lists boxes, and their number is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.errors import RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.coordinates import FoundBox, read_boxes
from mmrl.rewards.iou import iou
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

MOST_BOXES = 200  # a longer list is worth 0 unless the gold count is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class CountBoxes:
    """How near the number of distinct boxes in the answer (m) is to the gold count (n): max(0, 1 − |m − n| / n).

    The gold is a number, or the boxes themselves. Invalid boxes do not count, and of boxes that overlap by more than
    `distinct` only one does, so that a box written n times is one. `exact` gives 1 for m = n, else 0.
    """

    exact: bool = False
    distinct: float = 0.9  # the IoU above which two boxes are the same
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = self._gold(sample)
        answer = answer_text(completion, self.answer_tag)
        boxes = None if answer is None else read_boxes(answer)
        if boxes is None:
            return unanswered(completion, "boxes", self.answer_tag)
        if len(boxes) > max(MOST_BOXES, gold):
            return Score(value=0.0, details={"count": len(boxes)})
        count = self._count(boxes)
        if self.exact or not gold:
            return Score(value=float(count == gold), details={"count": count})
        return Score(value=max(0.0, 1.0 - abs(count - gold) / gold), details={"count": count})

    def verify(self, sample: Sample) -> None:
        self._gold(sample)

    def gold(self, sample: Sample) -> str:
        """As many boxes as there are things, side by side."""
        return str([[2 * i, 0, 2 * i + 1, 1] for i in range(self._gold(sample))])

    def _gold(self, sample: Sample) -> int:
        if sample.answer.type == "boxes":
            return len(sample.answer.value)
        if sample.answer.type != "number":
            raise wrong_type(sample, "count_boxes", "number, boxes")
        count = float(sample.answer.value)
        if not count.is_integer() or not 0 <= count <= 1000:
            raise RewardError(
                f"sample {sample.id!r}: reward 'count_boxes' needs a count from 0 to 1000, not {count:g}."
            )
        return int(count)

    def _count(self, boxes: Sequence[FoundBox]) -> int:
        kept: list[FoundBox] = []
        for found in boxes:
            if found.valid and not any(iou(found.box, other.box) > self.distinct for other in kept):
                kept.append(found)
        return len(kept)
