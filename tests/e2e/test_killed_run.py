"""A run that is killed in the middle of RL and resumed logs what an uninterrupted one logs. Real processes, kill -9."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmrl.training.metrics import read_metrics, reproducible

ROOT = Path(__file__).parents[2]
SMALL = (
    "algorithm.filters=[]",  # so weak a policy has nothing to learn from behind a filter
    "sft.steps=6",
    "sft.warmup_steps=2",
    "sft.samples_per_step=8",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "rollout.max_tokens=16",
    "train.steps=12",
    "train.checkpoint_every=4",
    "evaluation.limit=8",
    "evaluation.samples_per_prompt=2",
    "evaluation.ks=[1, 2]",
    "backend.threads=1",
)


def command(folder: Path, *more: str) -> list[str]:
    config = str(ROOT / "configs" / "quickstart" / "digits.yaml")
    return [sys.executable, "-m", "mmrl", "run", config, f"run.folder={folder}", *SMALL, *more]


def metrics(folder: Path) -> list[dict[str, float]]:
    path = folder / "digits" / "metrics.jsonl"
    return [reproducible(row) for row in read_metrics(path)] if path.is_file() else []


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    done = subprocess.run(command(straight), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    killed = tmp_path / "killed"
    with subprocess.Popen(
        command(killed), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 240
        while len(metrics(killed)) < 6:  # past the checkpoint of step 4
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (killed / "digits" / "report.json").exists()

    blocked = subprocess.run(command(killed), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert blocked.returncode == 2
    assert "--resume" in blocked.stderr
    assert "Traceback" not in blocked.stderr

    other = subprocess.run(
        command(killed, "rollout.group_size=5", "--resume"), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert other.returncode == 2
    assert "rollout.group_size" in other.stderr

    resumed = subprocess.run(command(killed, "--resume"), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(killed) == metrics(straight)
    assert len(metrics(killed)) == 12
    files = [f / "digits" / "checkpoints" / "step_000012" / "model.safetensors" for f in (straight, killed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (killed / "digits" / "report.html").is_file()

    # Going on past the end makes another model: it is evaluated anew.
    evaluation = killed / "digits" / "evaluation" / "after.json"
    before = evaluation.stat().st_mtime_ns
    longer = subprocess.run(
        command(killed, "--resume", "train.steps=13"), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert longer.returncode == 0, longer.stderr
    assert evaluation.stat().st_mtime_ns > before


@pytest.mark.slow
def test_another_seed_is_another_run_and_ctrl_c_leaves_a_resumable_one(tmp_path: Path) -> None:
    first = tmp_path / "first"
    with subprocess.Popen(
        command(first), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 240
        while len(metrics(first)) < 2:
            assert process.poll() is None, "the run ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    steps = len(metrics(first))
    assert (first / "digits" / "checkpoints" / f"step_{steps:06d}" / "trainer" / "state.pt").is_file()

    second = tmp_path / "second"
    done = subprocess.run(command(second, "run.seed=1"), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert metrics(second)[:steps] != metrics(first)
