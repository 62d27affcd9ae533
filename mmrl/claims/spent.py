"""What a training stage cost: steps, optimiser updates, completions, tokens, seconds; in total and step by step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmrl.traces.reader import TraceReader
from mmrl.training.metrics import read_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Of one step, or summed up."""

    steps: float = 0.0
    updates: float = 0.0  # of the optimiser
    rollouts: float = 0.0  # completions asked: filtered groups' and altered twins' as well; of sft: targets' none
    tokens: float = 0.0  # of those completions; of sft: of the targets
    seconds: float = 0.0  # wall time of the steps

    def __add__(self, other: Spent) -> Spent:
        mine, theirs = asdict(self), asdict(other)
        return Spent(**{name: mine[name] + theirs[name] for name in mine})


def spent_by_rl(run_dir: Path) -> list[Spent]:
    """Step by step, from the log and the traces of an RL stage."""
    rollouts: dict[int, tuple[int, int]] = {}
    for group in TraceReader(run_dir).groups():
        count, tokens = rollouts.get(group.step, (0, 0))
        own = sum(len(each.rollout.token_ids) for each in group.rollouts)
        rollouts[group.step] = (count + len(group.rollouts), tokens + own)
    steps = []
    for row in read_metrics(run_dir / "metrics.jsonl"):
        count, tokens = rollouts.get(int(row["step"]), (0, 0))
        updates = row.get("optim/updates", 0.0)
        steps.append(
            Spent(steps=1, updates=updates, rollouts=count, tokens=tokens, seconds=row.get("time/step_seconds", 0.0))
        )
    return steps


def spent_by_sft(run_dir: Path) -> list[Spent]:
    """Step by step, from the log of supervised training; its seconds are those of the stage, spread evenly."""
    rows = read_metrics(run_dir / "cold_start.jsonl")
    stages: dict[str, Any] = json.loads((run_dir / "stages.json").read_text())
    each = stages["cold_start"]["seconds"] / max(len(rows), 1)
    return [Spent(steps=1, updates=1, tokens=row.get("sft/tokens", 0.0), seconds=each) for row in rows]


def summed(steps: list[Spent]) -> Spent:
    """All of them together."""
    return sum(steps, Spent())
