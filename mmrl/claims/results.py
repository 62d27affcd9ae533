"""What a replication found, as it is stored: numbers per arm and seed, the rule's findings, and how they came about.

No path and no name of a machine is in it: it is made to be kept beside the docs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmrl.claims.schema import Claim, RuleEntry
from mmrl.claims.verdict import Rule, Verdict
from mmrl.errors import RunError
from mmrl.evaluation.estimators import Interval

SCHEMA = 1
Seeds = Annotated[dict[int, float | None], Field(description="seed → number; null: not measured")]


class Stored(BaseModel):
    """A part of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredInterval(Stored):
    """A mean over seeds."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(interval: Interval | None) -> StoredInterval | None:
        if interval is None:
            return None
        return StoredInterval(value=interval.value, low=interval.low, high=interval.high)


class StoredNumbers(Stored):
    """One measure of one arm."""

    seeds: Seeds
    mean: float | None  # over the seeds that have one
    interval: StoredInterval | None  # None with fewer than two


class StoredSpent(Stored):
    """Mean over seeds of what an arm's training cost."""

    steps: float
    updates: float
    rollouts: float
    tokens: float
    seconds: float


class StoredArm(Stored):
    """One arm."""

    says: str
    measures: dict[str, StoredNumbers]
    spent: StoredSpent
    settings: dict[str, dict[str, Any]]  # stage or evaluation → what of its config is not a default


class StoredStatement(Stored):
    """One statement of the claim and what became of it."""

    says: str
    measure: str
    arm: str
    against: str
    expect: str
    least: float
    margin: float
    decides: bool
    differences: tuple[float, ...]
    interval: StoredInterval | None
    verdict: Verdict
    reason: str


class StoredMachine(Stored):
    """Where and when it was run."""

    processor: str
    cores: int
    memory_gib: float
    gpu: str | None
    system: str
    processes: int  # units at a time
    seconds: float  # wall time, over all its processes; of one that was killed, up to the last arm done
    date: str  # when it was finished, UTC
    versions: dict[str, str]


class ClaimResults(Stored):
    """The file results.json."""

    schema_version: int = SCHEMA
    claim: Claim  # as it was run: with --quick and KEY=VALUE in it; recipes by name
    quick: bool
    changes: dict[str, Any]  # sections that KEY=VALUE changed everywhere
    seeds: tuple[int, ...]
    arms: dict[str, StoredArm]
    statements: tuple[StoredStatement, ...]
    verdict: Verdict
    cold_start: StoredSpent
    machine: StoredMachine


def rule_of(entry: RuleEntry) -> Rule:
    """The rule as plain values."""
    return Rule(interval=entry.interval, confidence=entry.confidence, least_seeds=entry.least_seeds)


def results_text(results: ClaimResults) -> str:
    """The file's content."""
    return json.dumps(results.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def read_results(path: Path) -> ClaimResults:
    """The results in a file; RunError where they are none."""
    try:
        fields: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if fields.get("schema_version", 0) > SCHEMA:
            raise ValueError(f"it has schema {fields['schema_version']}, this mmrl reads up to {SCHEMA}: update mmrl")
        return ClaimResults.model_validate(fields)
    except (OSError, ValueError, ValidationError) as error:
        raise RunError(f"{path}: these are no results of `mmrl replicate` ({error}). Run the claim again.") from None
