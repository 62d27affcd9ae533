"""Spans of time: IoU of one, at thresholds, and of several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.coordinates import verify_numbers
from mmrl.rewards.iou import check_thresholds, reached
from mmrl.rewards.iou_set import optimal_matching
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

Span = tuple[float, float]

LONGEST = 5_000  # characters; a longer answer is read as no span
LATEST = 1e7  # seconds
MOST_SPANS = 200  # that enter the matching; all of them count in the denominators

_TIME = r"(?<![\w.:])-?(?:\d{1,3}:)?+(?:\d{1,4}:)?+(?:\d{1,12}(?:\.\d{0,12})?+|\.\d{1,12})(?:e[-+]?\d{1,3})?+(?![:\d])"
_UNIT = r"(?:\s?(?:seconds?|secs?|s)\b)?"
_BETWEEN = r'\s*(?:to|and|until|-|–|—|~|,)\s*(?:"?end"?\s*[:=]\s*)?'
_NUMBER = re.compile(_TIME)
_PAIR = re.compile(rf"({_TIME}){_UNIT}{_BETWEEN}({_TIME}){_UNIT}")


def read_spans(text: str) -> list[Span] | None:
    """Every span in `text`: "12.5 to 17.8", "0:12 - 0:17", "[12.5, 17.8]", {"start": 12.5, "end": 17.8}, lists of them.

    None where there is none, or where numbers are left over (a wall of numbers is no span). Spans may be invalid.
    """
    if len(text) > LONGEST:
        return None
    line = re.sub(r"(?<=\d)\s?(?=[-–—]\s?\d)", " ", text.lower()) if "-" in text or "–" in text or "—" in text else text
    line = re.sub(r"(?<=\d )([-–—])(?=\d)", r"\1 ", line.lower())
    pairs = _PAIR.findall(line)
    if not pairs or len(_NUMBER.findall(line)) != 2 * len(pairs):
        return None
    return [(_seconds(start), _seconds(end)) for start, end in pairs]


def _seconds(time: str) -> float:
    sign, parts = (-1.0, time[1:]) if time.startswith("-") else (1.0, time)
    total = 0.0
    for part in parts.split(":"):
        total = 60.0 * total + float(part)
    return sign * total


def valid(span: Span) -> bool:
    """A reversed, empty, negative or endless span is none."""
    return 0.0 <= span[0] < span[1] <= LATEST


def span_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """|a ∩ b| / |a ∪ b| of two spans. Example: (4, 10) and (6, 12): 4 / 8."""
    overlap = min(a[1], b[1]) - max(a[0], b[0])
    return overlap / (max(a[1], b[1]) - min(a[0], b[0])) if overlap > 0.0 else 0.0


def union_iou(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """IoU of the times that two lists of spans cover; spans of one list may overlap."""
    first, second = _merged(a), _merged(b)
    overlap = 0.0
    i = j = 0
    while i < len(first) and j < len(second):
        overlap += max(0.0, min(first[i][1], second[j][1]) - max(first[i][0], second[j][0]))
        if first[i][1] <= second[j][1]:
            i += 1
        else:
            j += 1
    union = sum(end - start for start, end in first) + sum(end - start for start, end in second) - overlap
    return min(1.0, overlap / union) if union > 0.0 else 0.0


def _merged(spans: Sequence[Sequence[float]]) -> list[list[float]]:
    merged: list[list[float]] = []
    for start, end in sorted((span[0], span[1]) for span in spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalIoU:
    """IoU of the one answered span with the gold span, in seconds; with `thresholds`, the share of them it reaches.

    No span, several, or one that is reversed, empty or negative give 0. Thresholds [0.3, 0.5, 0.7] is the mean of
    R1@IoU. TimeZero and Time-R1 (arXiv:2503.13377), where a reversed span counts as 0 too.
    """

    thresholds: tuple[float, ...] = ()
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        check_thresholds("temporal_iou", self.thresholds)

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type != "span":
            raise wrong_type(sample, "temporal_iou", "span")
        answer = answer_text(completion, self.answer_tag)
        spans = None if answer is None else read_spans(answer)
        if not spans or len(spans) > 1 or not valid(spans[0]):
            return unanswered(completion, "one span of time that ends after it starts", self.answer_tag)
        overlap = span_iou(spans[0], sample.answer.value)
        value = reached(overlap, self.thresholds) if self.thresholds else overlap
        return Score(value=value, details={"iou": overlap, "span": spans[0]})

    def verify(self, sample: Sample) -> None:
        _verify_span(sample, sample.answer.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanSet:
    """How well the answered spans (M) are the gold spans (N):

    - union: IoU of the times they cover, however it is cut into spans.
    - matched: Σ IoU of the optimal matching / max(M, N).

    An invalid span makes the answer worth 0 for `union`; for `matched` it matches nothing and counts in M.
    """

    metric: Literal["union", "matched"] = "union"
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.metric not in ("union", "matched"):
            raise ConfigError(f"reward 'spans_iou': metric is {self.metric!r}; it must be 'union' or 'matched'.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type not in ("spans", "span"):
            raise wrong_type(sample, "spans_iou", "spans, span")
        answer = answer_text(completion, self.answer_tag)
        spans = None if answer is None else read_spans(answer)
        gold = [sample.answer.value] if sample.answer.type == "span" else sample.answer.value
        if not spans:
            return unanswered(completion, "spans of time", self.answer_tag)
        if self.metric == "union":
            value = union_iou(spans, gold) if all(map(valid, spans)) else 0.0
        else:
            given = spans[:MOST_SPANS]
            overlaps = [[span_iou(span, g) if valid(span) else 0.0 for g in gold] for span in given]
            value = sum(overlaps[i][j] for i, j in optimal_matching(overlaps)) / max(len(spans), len(gold))
        return Score(value=min(1.0, value), details={"said": len(spans), "gold": len(gold)})

    def verify(self, sample: Sample) -> None:
        spans = [sample.answer.value] if sample.answer.type == "span" else sample.answer.value
        if not spans:
            raise RewardError(f"sample {sample.id!r}: its answer has no span, so every answer would be worth 0.")
        for span in spans:
            _verify_span(sample, span)


def _verify_span(sample: Sample, span: object) -> None:
    verify_numbers(sample, span, 2)
    if not valid((span[0], span[1])):  # type: ignore[index]
        raise RewardError(f"sample {sample.id!r}: the gold span {span!r} is no span; it needs 0 ≤ start < end.")
