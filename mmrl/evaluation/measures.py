"""What is measured of answers besides the rewards' accuracy: the benchmarks' own scales, and consistency.

A measure is a number in [0, 1] of one completion; an evaluation reports its mean over the samples that it speaks of.
One that says how good an answer is counts a dropped sample as 0, as accuracy does; one that says how an answer was come
by leaves out what was not answered. All read answers as the rewards do (`rewards/answer.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmrl.rewards.agreement import agreement
from mmrl.rewards.answer import reasoning_text
from mmrl.rewards.iou import BoxIoU
from mmrl.rewards.number import MeanRelativeAccuracy
from mmrl.rewards.spans import SpanSet, TemporalIoU
from mmrl.types import AnswerType, Completion, Sample

IOU_THRESHOLDS = (0.3, 0.5, 0.7)
LIKELIHOOD = "answer_likelihood"

Details = Mapping[str, Any]  # what the completion's rewards said of it, all of them together
Of = Callable[[Completion, Sample, str, Details], float | None]  # (…, answer tag, …); None: it says nothing of this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One entry of the catalogue."""

    summary: str  # what the mean is, in a line; with its source
    of: Of
    answers: tuple[AnswerType, ...] = ()  # types of answer it speaks of; empty: any
    quality: bool = False  # says how good an answer is: a dropped sample is worth 0; else it is left out


def _mra(completion: Completion, sample: Sample, tag: str, details: Details) -> float:
    return MeanRelativeAccuracy(answer_tag=tag)(completion, sample).value


def _overlap(completion: Completion, sample: Sample, tag: str, details: Details) -> float:
    if "iou" in details:  # a reward's, which knows which media item is meant
        return float(details["iou"])
    match sample.answer.type:
        case "box":
            return BoxIoU(answer_tag=tag)(completion, sample).value
        case "span":
            return TemporalIoU(answer_tag=tag)(completion, sample).value
    return SpanSet(answer_tag=tag)(completion, sample).value


def _reaches(threshold: float) -> Of:
    return lambda completion, sample, tag, details: float(_overlap(completion, sample, tag, details) >= threshold)


def _verdict(wanted: str) -> Of:
    def of(completion: Completion, sample: Sample, tag: str, details: Details) -> float | None:
        if not tag or not reasoning_text(completion.text, tag):
            return None
        return float(agreement(completion.text, sample) == wanted)

    return of


def _told(completion: Completion, sample: Sample, tag: str, details: Details) -> float | None:
    return details.get(LIKELIHOOD)


MEASURES: dict[str, Measure] = {
    "mra": Measure(
        summary="mean relative accuracy of numbers (VSI-Bench, arXiv:2412.14171)",
        of=_mra,
        answers=("number",),
        quality=True,
    ),
    "iou": Measure(
        summary="mean intersection over union of boxes and of spans of time; of several spans: of what they cover",
        of=_overlap,
        answers=("box", "span", "spans"),
        quality=True,
    ),
    **{
        f"iou_at_{threshold}": Measure(
            summary=f"R1@{threshold}: share of answers whose IoU is at least {threshold}",
            of=_reaches(threshold),
            answers=("box", "span", "spans"),
            quality=True,
        )
        for threshold in IOU_THRESHOLDS
    },
    "consistent": Measure(
        summary="consistency rate: share of completions with a reasoning whose conclusion is the answer they give, by "
        "rules (`rewards/agreement.py`)",
        of=_verdict("agrees"),
    ),
    "contradicting": Measure(
        summary="share of them whose reasoning concludes with another answer, or that give none; the rest states no "
        "conclusion",
        of=_verdict("contradicts"),
    ),
    LIKELIHOOD: Measure(
        summary="likelihood per token of the answer after the reasoning, under the reference model, at most 0.95 "
        "(GRPO-CARE, arXiv:2506.16141); only where a reference model is named",
        of=_told,
    ),
}


def measured(completion: Completion, sample: Sample, *, tag: str, details: Details) -> dict[str, float]:
    """Every measure that speaks of this completion. `tag`: of the answer; `details`: see `Details`."""
    found = {}
    for name, measure in MEASURES.items():
        if speaks_of(measure, sample):
            value = measure.of(completion, sample, tag, details)
            if value is not None:
                found[name] = value
    return found


def unanswered(sample: Sample) -> dict[str, float]:
    """The measures of a sample that was dropped: 0 in those of quality."""
    return {name: 0.0 for name, measure in MEASURES.items() if measure.quality and speaks_of(measure, sample)}


def speaks_of(measure: Measure, sample: Sample) -> bool:
    """Whether the measure has anything to do with samples of this kind."""
    return not measure.answers or sample.answer.type in measure.answers
