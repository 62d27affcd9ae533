"""A whole run on two ranks under torchrun: digits, at ZeRO-3, beside the same run in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmrl.training.metrics import read_metrics

ROOT = Path(__file__).parents[2]
STEPS = 4
OVERRIDES = (
    "sft.steps=70",
    "sft.samples=200",
    f"train.steps={STEPS}",
    "train.checkpoint_every=2",
    "train.warmup_steps=0",
    "train.learning_rate=1e-4",
    "rollout.prompts_per_step=16",
    "evaluation.limit=150",
    "evaluation.samples_per_prompt=1",
    "evaluation.ks=[1]",
)


def run(folder: Path, name: str, *more: str, launcher: tuple[str, ...] = ()) -> Path:
    config = ["configs/quickstart/digits.yaml", f"run.folder={folder}", f"run.name={name}", *OVERRIDES, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, *launcher, "-m", "mmrl", "run", *config]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / name


def accuracy(run_dir: Path, when: str) -> float:
    said: dict[str, Any] = json.loads((run_dir / "evaluation" / f"{when}.json").read_text())
    return float(said["overall"]["accuracy"]["value"])


@pytest.mark.slow
def test_two_ranks_reach_what_one_reaches(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    one = run(tmp_path, "one")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = run(tmp_path, "two", "backend.type=deepspeed", "backend.zero_stage=3", launcher=launcher)
    # From random weights by the cold start, which samples nothing; chance is 0.1.
    assert accuracy(one, "before") > 0.4
    assert accuracy(two, "before") == pytest.approx(accuracy(one, "before"), abs=0.04)
    # Rounding sends some rollouts another way, and from then on the two are different runs of the same training.
    assert accuracy(two, "after") == pytest.approx(accuracy(one, "after"), abs=0.1)
    ours, theirs = (read_metrics(folder / "metrics.jsonl") for folder in (two, one))
    assert [row["step"] for row in ours] == [row["step"] for row in theirs] == list(range(STEPS))
    assert ours[0]["reward/total_mean"] == pytest.approx(theirs[0]["reward/total_mean"], abs=0.02)
    for step in range(STEPS):  # every rollout once, in the order of one process
        traced, expected = (
            [json.loads(line) for line in (folder / "traces" / f"step_{step:06d}.jsonl").read_text().splitlines()]
            for folder in (two, one)
        )
        groups = [line["sample"]["id"] for line in traced if line["kind"] == "group"]
        assert len(groups) == len(set(groups)) >= 16
        if step == 0:
            assert groups == [line["sample"]["id"] for line in expected if line["kind"] == "group"]
            assert [len(line["rollouts"]) for line in traced] == [len(line["rollouts"]) for line in expected]
    assert (two / "report.html").is_file()
