"""One defect of a manifest, as validation reports it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One defect."""

    where: str  # "train.jsonl:12"
    sample_id: str | None  # as far as the row has one
    message: str  # what is wrong, why it matters, what to do

    def __str__(self) -> str:
        return f"{self.where}: " + (f"sample {self.sample_id!r}: " if self.sample_id else "") + self.message
