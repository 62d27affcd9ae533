"""What two runs of the same config and seed have in common: metrics and rollouts, without what a clock says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmrl.training.metrics import read_metrics, reproducible


def rows(run_dir: Path) -> list[dict[str, float]]:
    """The metrics of every step."""
    return [reproducible(row) for row in read_metrics(run_dir / "metrics.jsonl")]


def traced(run_dir: Path) -> list[Any]:
    """Every rollout of the run, without how long its rewards took."""
    lines = [
        json.loads(line)
        for path in sorted((run_dir / "traces").glob("step_*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    for line in lines:
        for rollout in line.get("rollouts", []):
            for result in rollout["rewards"].values():
                result.pop("seconds")
    return lines
