"""Several completions of one question: which answers were given how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmrl.rewards.coordinates import read_boxes, read_point
from mmrl.rewards.iou import iou
from mmrl.rewards.normalize import plain
from mmrl.rewards.options import named_options
from mmrl.rewards.quantity import read_quantity
from mmrl.rewards.spans import read_spans, span_iou
from mmrl.types import Sample

SAME_AT = 0.5  # IoU from which two boxes or spans are one vote
NEAR = 0.05  # of the larger coordinate's range: points nearer than that are one vote


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer and who gave it."""

    answer: str  # as the first of them wrote it; empty: no answer that counts
    samples: tuple[int, ...]  # indices, ascending


def votes(answers: Sequence[str | None], sample: Sample) -> list[Vote]:
    """Answers that mean the same, most frequent first; those without an answer last.

    Choices are compared by letter, numbers by value, boxes and spans by IoU ≥ 0.5, points by distance, all else by
    text without case and outer punctuation.
    """
    same = _same(sample)
    found: list[tuple[str, list[int]]] = []
    silent: list[int] = []
    for index, answer in enumerate(answers):
        if not answer:
            silent.append(index)
            continue
        for first, members in found:
            if same(first, answer):
                members.append(index)
                break
        else:
            found.append((answer, [index]))
    found.sort(key=lambda item: -len(item[1]))
    table = [Vote(answer=answer, samples=tuple(members)) for answer, members in found]
    return [*table, Vote(answer="", samples=tuple(silent))] if silent else table


def agreement_share(table: Sequence[Vote], count: int) -> float:
    """The share of all completions that gave the most frequent answer, in [0, 1]."""
    return max((len(vote.samples) for vote in table if vote.answer), default=0) / count if count else 0.0


def _same(sample: Sample) -> Callable[[str, str], bool]:
    kind = sample.answer.type
    if kind in ("choice", "choices"):
        return lambda a, b: _either(named_options(a, sample) or None, named_options(b, sample) or None, a, b)
    if kind in ("number", "math"):
        return _same_number
    if kind == "box":
        return _same_box
    if kind == "span":
        return _same_span
    if kind == "point":
        return _same_point
    return _same_text


def _either(first: object, second: object, a: str, b: str) -> bool:
    """By what was read, or by text where one of them was not understood."""
    return first == second if first is not None and second is not None else _same_text(a, b)


def _same_text(a: str, b: str) -> bool:
    return plain(a) == plain(b)


def _same_number(a: str, b: str) -> bool:
    first, second = read_quantity(a), read_quantity(b)
    if first is None or second is None:
        return _same_text(a, b)
    close = abs(first.value - second.value) <= 1e-6 * max(1.0, abs(second.value))
    return close and first.unit == second.unit


def _same_box(a: str, b: str) -> bool:
    first, second = read_boxes(a), read_boxes(b)
    if first and second and len(first) == len(second) == 1 and first[0].valid and second[0].valid:
        return iou(first[0].box, second[0].box) >= SAME_AT
    return _same_text(a, b)


def _same_span(a: str, b: str) -> bool:
    first, second = read_spans(a), read_spans(b)
    if first and second and len(first) == len(second) == 1:
        return span_iou(first[0], second[0]) >= SAME_AT
    return _same_text(a, b)


def _same_point(a: str, b: str) -> bool:
    first, second = read_point(a), read_point(b)
    if first is None or second is None:
        return _same_text(a, b)
    reach = NEAR * max(1e-9, *map(abs, first), *map(abs, second))
    return abs(first[0] - second[0]) <= reach and abs(first[1] - second[1]) <= reach
