"""One line of a trace, reduced to what groups are found and sorted by.

A trace line is tens of kilobytes, mostly numbers per token; its row here is a few hundred bytes. `index.py` keeps the
rows of all lines in columns, and `odd` says what is strange about a group before anybody reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from statistics import fmean, pstdev
from typing import Any

from mmrl.rewards.agreement import agreement
from mmrl.rewards.answer import find_answer
from mmrl.traces.codec import SCHEMA, decode_sample
from mmrl.types import CORRECT_AT

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """A group, or a sample that never became one (`size` 0). Means are over its rollouts; NaN where there is none."""

    step: int
    place: int  # byte of the step's file at which its line begins
    extent: int  # of the line in bytes
    sample_id: str
    task: str  # empty where the sample never became a group
    question: str
    stage: str  # where it was dropped; empty: it was trained on
    reason: str  # why
    size: int  # rollouts, G
    total: float  # mean reward
    spread: float  # largest less smallest reward
    deviation: float  # population standard deviation of the rewards
    accuracy: float  # mean, in [0, 1]
    pass_rate: float  # share of rollouts that are correct
    form: float  # mean format, in [0, 1]
    tokens: float  # mean length of a completion
    longest: int  # tokens of the longest completion
    cut: int  # completions cut at max_tokens
    different: int  # different texts
    equal: bool  # odd: several rollouts, and all earned the same
    lucky: bool  # odd: more than two rollouts, and exactly one is correct
    form_only: float  # odd: share of rollouts that keep the form and are wrong
    contradicts: float  # odd: share of rollouts whose reasoning ends elsewhere than their answer
    part_names: tuple[str, ...]  # rewards, …
    part_means: tuple[float, ...]  # … and the mean of their values

    @property
    def odd(self) -> float:
        """How odd it is altogether, 0 … 4."""
        return self.equal + self.lucky + self.form_only + self.contradicts


COLUMNS = tuple(field.name for field in fields(GroupRow))


def group_row(line: Json, *, place: int, extent: int) -> tuple[GroupRow, str]:
    """The row of a parsed line, and the text that is searched: question and completions, in lower case.

    Raises KeyError, TypeError or ValueError on a line that is no trace.
    """
    if line["schema"] > SCHEMA:
        raise ValueError(f"it has schema {line['schema']}, this mmrl reads up to {SCHEMA}: update mmrl")
    where = {"step": int(line["step"]), "place": place, "extent": extent}
    dropped = line["dropped"] or {"stage": "", "reason": ""}
    if line["kind"] != "group":
        return _never_asked(where, dropped), f"{dropped['sample_id']} {dropped['detail']}".lower()
    sample, rollouts = line["sample"], line["rollouts"]
    totals = [_number(r["total"]) for r in rollouts]
    right = [_number(r["accuracy"]) >= CORRECT_AT for r in rollouts]
    texts = [r["text"] for r in rollouts]
    parts = {name: fmean(_number(r["rewards"][name]["value"]) for r in rollouts if name in r["rewards"])
             for name in dict.fromkeys(name for r in rollouts for name in r["rewards"])}  # fmt: skip
    row = GroupRow(
        **where,
        sample_id=sample["id"],
        task=sample["task"],
        question=sample["question"],
        stage=dropped["stage"],
        reason=dropped["reason"],
        size=len(rollouts),
        total=_mean(totals),
        spread=max(totals, default=math.nan) - min(totals, default=math.nan),
        deviation=pstdev(totals) if totals and all(map(math.isfinite, totals)) else math.nan,
        accuracy=_mean(_number(r["accuracy"]) for r in rollouts),
        pass_rate=_mean(map(float, right)),
        form=_mean(_number(r["format"]) for r in rollouts),
        tokens=_mean(float(len(r["token_ids"])) for r in rollouts),
        longest=max((len(r["token_ids"]) for r in rollouts), default=0),
        cut=sum(r["finish_reason"] == "length" for r in rollouts),
        different=len(set(texts)),
        equal=len(totals) > 1 and max(totals) - min(totals) < 1e-9,
        lucky=len(totals) > 2 and sum(right) == 1,
        form_only=_mean(
            float(_number(r["format"]) >= CORRECT_AT and not ok) for r, ok in zip(rollouts, right, strict=True)
        ),
        contradicts=_mean(_contradictions(line)),
        part_names=tuple(parts),
        part_means=tuple(parts.values()),
    )
    return row, "\n".join([sample["id"], sample["question"], *texts]).lower()


def _never_asked(where: Mapping[str, int], dropped: Json) -> GroupRow:
    nan = math.nan
    return GroupRow(
        step=where["step"], place=where["place"], extent=where["extent"], sample_id=dropped["sample_id"], task="",
        question="", stage=dropped["stage"], reason=dropped["reason"], size=0, total=nan, spread=nan, deviation=nan,
        accuracy=nan, pass_rate=nan, form=nan, tokens=nan, longest=0, cut=0, different=0, equal=False, lucky=False,
        form_only=nan, contradicts=nan, part_names=(), part_means=(),
    )  # fmt: skip


def _contradictions(line: Json) -> list[float]:
    """Per rollout 1 where reasoning and answer part. The reward `agreement` said so already where the run has it."""
    sample = None
    found = []
    for rollout in line["rollouts"]:
        judged = rollout["rewards"].get("agreement")
        verdict = judged["details"].get("verdict") if judged else None
        if verdict is None or verdict == "contradicts":  # it also calls a missing answer a contradiction
            text = rollout["text"]
            if find_answer(text).valid is None:
                verdict = "unstated"
            elif verdict is None:
                sample = sample or decode_sample(line["sample"])
                verdict = agreement(text, sample)
        found.append(float(verdict == "contradicts"))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else math.nan
