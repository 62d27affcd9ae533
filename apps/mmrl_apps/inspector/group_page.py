"""One group: what was seen, what was written, what was paid, and what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mmrl.errors import RunError
from mmrl.report.completions import gold_text, segments
from mmrl.traces.record import TraceGroup, TraceRollout
from mmrl.traces.rows import GroupRow
from mmrl.types import CORRECT_AT, RewardStatus, Sample
from mmrl_apps.inspector import tokens as colouring
from mmrl_apps.inspector.address import group_address
from mmrl_apps.shared.marks import Mark, gold_marks, marked_item, media_size, said_marks
from mmrl_apps.shared.markup import fragment, render
from mmrl_apps.shared.pictures import ShownMedia, show_media

if TYPE_CHECKING:
    from mmrl_apps.inspector.inspector import OpenRun

_LONGEST_DETAIL = 600  # characters
NO_GROUP = "No group is open. Find one in the tab Groups and choose it there."


def find_group(run: OpenRun, step: int, place: int) -> tuple[GroupRow, TraceGroup]:
    """The group whose line begins at byte `place` of a step's file. RunError where there is none (any more)."""
    row = run.index.at(step, place)
    if row is None:
        raise RunError(
            f"There is no group at place {place} of step {step} in {run.name}. If the run was resumed from before that "
            "step, its traces were written anew: find the group again in the tab Groups."
        )
    if row.size == 0:
        raise RunError(
            f"{row.sample_id} never became a group. It was left out at step {step} ({row.stage}): {row.reason}."
        )
    return row, run.index.group(row)


def group_html(run: OpenRun, step: int, place: int, *, colour: str = "") -> str:
    """The group's part of the page."""
    row, group = find_group(run, step, place)
    return fragment("group.html.j2", **group_view(run, row, group, colour=colour))


def group_file(run: OpenRun, step: int, place: int, *, colour: str = "") -> tuple[str, str]:
    """(file name, the group as a page that needs no other file)."""
    from mmrl_apps.shared.style import standalone_css

    row, group = find_group(run, step, place)
    body = render("group.html.j2", **group_view(run, row, group, colour=colour, links=False))
    title = f"{run.name}, step {step}, {group.sample.id}"
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{run.name}-step{step}-{group.sample.id}")
    return f"{name}.html", render("standalone.html.j2", title=title, css=standalone_css(), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One completion."""

    index: int
    correct: bool
    scored: bool  # whether it was told right from wrong: an exchange of the demo was not
    segments: tuple[Any, ...]
    figures: tuple[tuple[str, str], ...]
    parts: tuple[dict[str, Any], ...]
    push: int  # −100 … 100: the advantage relative to the group's largest
    advantage: str
    pieces: tuple[colouring.Piece, ...]
    tokens_note: str  # why there are no coloured tokens though they were asked for
    origin: str
    truncated: bool


def group_view(
    run: OpenRun, row: GroupRow, group: TraceGroup, *, colour: str = "", links: bool = True
) -> dict[str, Any]:
    """What the template shows."""
    sample = group.sample
    media = show_media(sample.media, group.views, run.guard)
    item = marked_item(sample, run.rewards())
    marks = drawn_marks(sample, media, group, item=item)
    numbers = [colouring.values(group, rollout, colour) for rollout in group.rollouts] if colour else []
    largest = colouring.scale(numbers)
    pushes = max((abs(r.advantage or 0.0) for r in group.rollouts), default=0.0) or 1.0
    cards = tuple(
        _card(run, rollout, pushes, colour, numbers[place] if colour else None, largest)
        for place, rollout in enumerate(group.rollouts)
    )
    visits = run.index.visits(sample.id)
    return {
        "run": run.name,
        "row": row,
        "group": group,
        "sample": sample,
        "gold": gold_text(sample.answer),
        "options": options(sample),
        "media": media,
        "marks": marks,
        "cards": cards,
        "correct": f"{right(row)} right" if math.isfinite(row.accuracy) else "not scored",
        "odd": oddities(row),
        "legend": colouring.legend(colour, largest) if any(card.pieces for card in cards) else None,
        "visits": [
            {
                "step": visit.step,
                "now": (visit.step, visit.place) == (row.step, row.place),
                "address": group_address(run.name, visit.step, visit.place) if links else "",
                "open": f"{visit.step}:{visit.place}",
                "right": right(visit),
                "total": shown(visit.total),
                "tokens": f"{visit.tokens:.0f}",
                "reason": visit.reason,
            }
            for visit in visits
        ],
        "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False) if sample.metadata else "",
    }


def drawn_marks(
    sample: Sample, media: Sequence[ShownMedia], group: TraceGroup | None, *, item: int
) -> list[tuple[Mark, ...]]:
    """Per media item its marks: all of them on `item` (`marked_item`)."""
    marks: list[tuple[Mark, ...]] = [() for _ in media]
    if media and media[item].pictures:
        view = group.views[item] if group is not None and item < len(group.views) else None
        size = media_size(view, media[item].size)
        found = list(gold_marks(sample.answer, size))
        for rollout in group.rollouts if group is not None else ():
            text = rollout.rollout.completion.text
            found += said_marks(text, who=rollout.rollout.index, answer=sample.answer, view=view, size=size)
        marks[item] = tuple(found)
    return marks


def options(sample: Sample) -> list[tuple[str, str, bool]]:
    """Letter, text, and whether it is gold."""
    right: tuple[str, ...] = ()
    if sample.answer.type in ("choice", "choices"):
        right = tuple(map(str, [sample.answer.value] if sample.answer.type == "choice" else sample.answer.value))
    return [(letter, text, letter in right) for letter, text in zip(sample.letters, sample.choices, strict=True)]


def oddities(row: GroupRow) -> list[str]:
    """What is strange about a group, in a few words each."""
    found = []
    if row.equal:
        found.append("all equal")
    if row.lucky:
        found.append("one lucky")
    if row.form_only >= 0.5:
        found.append(f"form without accuracy × {round(row.form_only * row.size)}")
    if row.contradicts > 0:
        found.append(f"reasoning contradicts answer × {round(row.contradicts * row.size)}")
    return found


def right(row: GroupRow) -> str:
    """How many completions are correct; a dash where none was told right from wrong."""
    return f"{round(row.pass_rate * row.size)} of {row.size}" if row.size and math.isfinite(row.accuracy) else "–"


def shown(value: float | None, signed: bool = False) -> str:
    """Three digits, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.3g}" if signed else f"{value:.3g}"


def _card(
    run: OpenRun,
    traced: TraceRollout,
    pushes: float,
    colour: str,
    numbers: Sequence[float] | None,
    largest: float,
) -> Card:
    rollout = traced.rollout
    advantage = traced.advantage
    pieces: tuple[colouring.Piece, ...] = ()
    note = ""
    if colour and numbers is None:
        note = (
            "nothing was learnt from this group, so it has none"
            if advantage is None
            else f"this trace holds no {colour} per token: the run did not compute it"
        )
    elif colour and numbers is not None:
        split = run.tokens.split(rollout.token_ids, rollout.completion.text)
        if split is None:
            note = "the run folder holds no tokenizer (checkpoints/step_*/tokenizer.json) to cut the text into tokens"
        else:
            pieces = tuple(colouring.coloured(split, numbers, colour, largest))
    figures = [
        ("reward", shown(traced.total)),
        ("advantage", shown(advantage, signed=True)),
        ("tokens", str(len(rollout.token_ids))),
        ("log-prob. per token", shown(_mean(rollout.policy_logprobs))),
    ]
    for stream, name in (("kl", "KL per token"), ("entropy", "entropy per token")):
        if stream in traced.streams:
            figures.append((name, shown(_mean(traced.streams[stream]))))
    figures.append(("weights of step", str(rollout.policy_version)))
    finite = advantage is not None and math.isfinite(advantage)
    return Card(
        index=rollout.index,
        correct=traced.accuracy >= CORRECT_AT,
        scored=math.isfinite(traced.accuracy),
        segments=tuple(segments(rollout.completion.text)),
        figures=tuple(figures),
        parts=tuple(
            {
                "name": name,
                "value": shown(result.value),
                "weight": shown(result.weight),
                "note": detail_text(result.details),
                "failed": result.status is not RewardStatus.OK,
                "status": str(result.status),
            }
            for name, result in traced.rewards.items()
        ),
        push=round(100 * (advantage or 0.0) / pushes) if finite else 0,
        advantage=shown(advantage, signed=True),
        pieces=pieces,
        tokens_note=note,
        origin="" if rollout.own else rollout.origin,
        truncated=rollout.truncated,
    )


def detail_text(details: Mapping[str, Any]) -> str:
    """Why a reward gave what it gave, in one line."""
    said = ", ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False, default=str)}"
        for key, value in details.items()
    )
    return said if len(said) <= _LONGEST_DETAIL else said[: _LONGEST_DETAIL - 1] + "…"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _mean(numbers: Sequence[float]) -> float:
    finite = [number for number in numbers if math.isfinite(number)]
    return fmean(finite) if finite else math.nan
