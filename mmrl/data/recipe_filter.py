"""Which rows of a source a recipe keeps. Every rule names the reason under which the rows it refuses are counted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mmrl.data.source import Draft
from mmrl.types import Dropped


class Filters(BaseModel):
    """The `filters` of a recipe; a rule that is not given keeps everything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...] | None = Field(None, min_length=1, description="keep rows of these tasks")
    answer_types: tuple[str, ...] | None = Field(None, min_length=1, description="keep rows with these answer types")
    media_types: tuple[str, ...] | None = Field(None, min_length=1, description="keep rows all of whose media are so")
    longest_question: int | None = Field(None, ge=1, description="characters, the options not counted")
    most_media: int | None = Field(None, ge=0)
    fewest_choices: int | None = Field(None, ge=2, description="of rows that have options at all")
    most_choices: int | None = Field(None, ge=2)
    metadata: dict[str, tuple[str | int | float | bool, ...]] = Field(
        default_factory=dict, description="key → the values that are kept; rows without the key are not"
    )

    def refusal(self, draft: Draft) -> Dropped | None:
        """Why a row is left out; None where it stays."""
        for reason, refused, detail in self._verdicts(draft):
            if refused:
                return Dropped(sample_id=draft.key, stage="filter", reason=reason, detail=detail)
        return None

    def _verdicts(self, draft: Draft) -> list[tuple[str, bool, str]]:
        count, options = len(draft.media), len(draft.choices)
        kinds = {item.type for item in draft.media}
        verdicts = [
            ("task not wanted", _beyond({draft.task}, self.tasks), f"the task is {draft.task!r}"),
            (
                "answer type not wanted",
                _beyond({draft.answer.type}, self.answer_types),
                f"the answer is of type {draft.answer.type!r}",
            ),
            ("media type not wanted", _beyond(kinds, self.media_types), f"its media are {', '.join(sorted(kinds))}"),
            (
                "question too long",
                self.longest_question is not None and len(draft.question) > self.longest_question,
                f"the question has {len(draft.question)} characters; the recipe takes {self.longest_question}",
            ),
            (
                "too many media",
                self.most_media is not None and count > self.most_media,
                f"it has {count} media items; the recipe takes {self.most_media}",
            ),
            (
                "too few options",
                self.fewest_choices is not None and 0 < options < self.fewest_choices,
                f"it has {options} options; the recipe asks for {self.fewest_choices}",
            ),
            (
                "too many options",
                self.most_choices is not None and options > self.most_choices,
                f"it has {options} options; the recipe takes {self.most_choices}",
            ),
        ]
        for key, values in self.metadata.items():
            held: Any = draft.metadata.get(key)
            verdicts.append((f"{key} not wanted", held not in values, f"metadata {key!r} is {held!r}"))
        return verdicts


def _beyond(held: Collection[str], wanted: tuple[str, ...] | None) -> bool:
    return wanted is not None and not set(held) <= set(wanted)
