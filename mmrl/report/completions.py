"""What the page shows of a group: picture, question, gold, every completion with its rewards and its advantage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mmrl.report.picks import Pick
from mmrl.report.pictures import Picture, pictures_of
from mmrl.rewards.answer import REASONING_TAGS
from mmrl.traces.record import TraceGroup, TraceRollout
from mmrl.types import CORRECT_AT, Answer, RewardStatus, Sample

_BLOCK = re.compile(rf"<(?P<tag>{'|'.join((*REASONING_TAGS, 'answer'))})>(?P<inside>.*?)</(?P=tag)>", re.DOTALL)
_LONGEST_DETAIL = 200  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of a completion."""

    kind: Literal["reasoning", "answer", "other"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardPart:
    """One reward of one completion."""

    name: str
    value: str
    weight: str
    note: str  # its details, or why it failed
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionView:
    """One completion."""

    index: int
    correct: bool
    segments: tuple[Segment, ...]
    tokens: int
    truncated: bool
    total: str
    accuracy: str
    parts: tuple[RewardPart, ...]
    advantage: str  # signed; a dash where the group was dropped
    push: int  # −100 … 100: the advantage relative to the group's largest, for the bar


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """One group of the page."""

    title: str
    why: str
    step: int
    sample: Sample
    options: tuple[tuple[str, str, bool], ...]  # letter, text, whether it is gold
    gold: str
    pictures: tuple[Picture, ...]
    completions: tuple[CompletionView, ...]
    correct: int  # how many of the completions
    dropped: str  # why nothing was learnt from it; empty: it was trained on


def view_group(pick: Pick) -> GroupView:
    """Everything the page needs of a picked group."""
    group = pick.group
    sample = group.sample
    completions = tuple(_completion(rollout, _largest_advantage(group)) for rollout in group.rollouts)
    right = _gold_letters(sample.answer)
    return GroupView(
        title=pick.title,
        why=pick.why,
        step=group.step,
        sample=sample,
        options=tuple(
            (letter, text, letter in right) for letter, text in zip(sample.letters, sample.choices, strict=True)
        ),
        gold=gold_text(sample.answer),
        pictures=tuple(pictures_of(sample.media, group.views)),
        completions=completions,
        correct=sum(completion.correct for completion in completions),
        dropped=f"{group.dropped.reason}: {group.dropped.detail}".rstrip(": ") if group.dropped else "",
    )


def segments(text: str) -> Iterator[Segment]:
    """Reasoning and answer blocks without their tags, and whatever stands outside of them as it is."""
    position = 0
    for block in _BLOCK.finditer(text):
        yield from _other(text[position : block.start()])
        yield Segment(kind="answer" if block["tag"] == "answer" else "reasoning", text=block["inside"].strip())
        position = block.end()
    yield from _other(text[position:])


def gold_text(answer: Answer) -> str:
    """The verifiable answer in a few words."""
    value = answer.value
    if isinstance(value, str):
        said = value
    elif isinstance(value, tuple):
        said = json.dumps(value, ensure_ascii=False)
    else:
        said = f"{value:g}"
    in_space = f" ({answer.space})" if answer.type in ("box", "boxes", "point") else ""
    return f"{said} {answer.unit or ''}".rstrip() + in_space


def _other(text: str) -> Iterator[Segment]:
    if text.strip():
        yield Segment(kind="other", text=text.strip())


def _gold_letters(answer: Answer) -> frozenset[str]:
    if answer.type == "choice":
        return frozenset([str(answer.value)])
    return frozenset(map(str, answer.value)) if answer.type == "choices" else frozenset()


def _largest_advantage(group: TraceGroup) -> float:
    return max((abs(rollout.advantage or 0.0) for rollout in group.rollouts), default=0.0) or 1.0


def _completion(traced: TraceRollout, largest: float) -> CompletionView:
    advantage = traced.advantage
    return CompletionView(
        index=traced.rollout.index,
        correct=traced.accuracy >= CORRECT_AT,
        segments=tuple(segments(traced.rollout.completion.text)),
        tokens=len(traced.rollout.token_ids),
        truncated=traced.rollout.truncated,
        total=f"{traced.total:.3g}",
        accuracy=f"{traced.accuracy:.3g}",
        parts=tuple(
            RewardPart(
                name=name,
                value=f"{result.value:.3g}",
                weight=f"{result.weight:.3g}",
                note=_note(result.details),
                failed=result.status is not RewardStatus.OK,
            )
            for name, result in traced.rewards.items()
        ),
        advantage="–" if advantage is None else f"{advantage:+.2f}",
        push=round(100 * advantage / largest) if advantage is not None and advantage == advantage else 0,
    )


def _note(details: Any) -> str:
    said = ", ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in details.items()
    )
    return said if len(said) <= _LONGEST_DETAIL else said[: _LONGEST_DETAIL - 1] + "…"
