"""What groups are looked for by, as SQL over the index's columns. Every value travels as a parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmrl.errors import ConfigError, unknown_name

Range = tuple[float | None, float | None]  # lowest and highest, both included; None: no bound
ANY: Range = (None, None)

# Name → the condition.
ODD: Mapping[str, str] = {
    "all equal": "equal",
    "one lucky": "lucky",
    "form without accuracy": "form_only >= 0.5",  # of half of them or more
    "reasoning contradicts answer": "contradicts > 0",
}

# Name → the order. Ties go by step and place in the file, so that pages of a list never overlap.
SORTS: Mapping[str, str] = {
    "newest": "step DESC",
    "oldest": "step, place",
    "oddest": "(equal::INT + lucky::INT + form_only + contradicts) DESC NULLS LAST",
    "one lucky first": "lucky DESC, pass_rate",
    "all equal first": "equal DESC, size DESC",
    "most form without accuracy": "form_only DESC NULLS LAST, form DESC",
    "most contradictions": "contradicts DESC NULLS LAST",
    "largest reward spread": "spread DESC NULLS LAST",
    "highest reward": "total DESC NULLS LAST",
    "lowest reward": "total NULLS LAST",
    "lowest pass rate": "pass_rate NULLS LAST",
    "longest": "tokens DESC NULLS LAST",
    "fewest different texts": "different / nullif(size, 0) NULLS LAST",
}

TRAINED, DROPPED = "trained on", "left out"  # outcomes beside the reasons themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """Which groups, and in which order. The defaults find all of them."""

    steps: Range = ANY
    task: str = ""
    sample_id: str = ""  # a part of it is enough
    reward: Range = ANY  # of the group's mean
    part: str = ""  # name of a reward, for …
    part_range: Range = ANY  # … the range of the group's mean of it
    pass_rate: Range = ANY
    tokens: Range = ANY  # mean length
    outcome: str = ""  # TRAINED, DROPPED, or a drop reason
    text: str = ""  # in the question or a completion, whatever the case
    odd: str = ""  # a key of ODD
    sort: str = "newest"  # a key of SORTS

    def __post_init__(self) -> None:
        if self.odd and self.odd not in ODD:
            raise ConfigError(unknown_name("oddity", self.odd, ODD))
        if self.sort not in SORTS:
            raise ConfigError(unknown_name("order", self.sort, SORTS))
        for name in ("steps", "reward", "part_range", "pass_rate", "tokens"):
            low, high = getattr(self, name)
            if any(bound is not None and math.isnan(bound) for bound in (low, high)):
                raise ConfigError(f"{name}: a bound is no number")
            if low is not None and high is not None and low > high:
                raise ConfigError(f"{name}: from {low:g} to {high:g} holds nothing; exchange the two")


def conditions(find: Find) -> tuple[str, list[Any]]:
    """The WHERE clause without the text search, and its parameters."""
    parts: list[str] = []
    values: list[Any] = []

    def add(condition: str, *its: Any) -> None:
        parts.append(condition)
        values.extend(its)

    def between(column: str, bounds: Range) -> None:
        for bound, sign in zip(bounds, (">=", "<="), strict=True):
            if bound is not None:
                add(f"{column} {sign} ?", bound)

    between("step", find.steps)
    between("total", find.reward)
    between("pass_rate", find.pass_rate)
    between("tokens", find.tokens)
    if find.task:
        add("task = ?", find.task)
    if find.sample_id:
        add("contains(lower(sample_id), ?)", find.sample_id.lower())
    if find.part:
        add("list_contains(part_names, ?)", find.part)
        for bound, sign in zip(find.part_range, (">=", "<="), strict=True):
            if bound is not None:
                add(f"part_means[list_position(part_names, ?)] {sign} ?", find.part, bound)
    if find.outcome == TRAINED:
        add("stage = ''")
    elif find.outcome == DROPPED:
        add("stage <> ''")
    elif find.outcome:
        add("reason = ? AND stage <> ''", find.outcome)
    if find.odd:
        add(ODD[find.odd])
    return " AND ".join(parts) or "true", values
