"""The scripts of tools/launch, on processors: what they start is one run on all ranks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmrl.training.checkpoint import checkpoints
from mmrl.training.metrics import read_metrics
from tests import toy
from tests.ranks.test_rank_watch import free_port
from tests.training.killed_run import write_config

ROOT = Path(__file__).parents[2]
ON_CPU = ("backend.device=cpu", "backend.dtype=float32", "backend.threads=1")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bash") is None, reason="the scripts are bash's"),
]


def started(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The script with this environment's Python, DeepSpeed and torchrun."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        [str(ROOT / "tools" / "launch" / script), *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended_well(processes: list[subprocess.Popen[str]]) -> None:
    try:
        for process in processes:
            said, _ = process.communicate(timeout=300)
            assert process.returncode == 0, said[-4000:]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize(("launcher", "ranks"), [("none", 1), ("deepspeed", 2), ("two machines", 2)])
def test_a_script_starts_one_run_on_all_ranks(launcher: str, ranks: int, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    config = write_config(tmp_path, toy.noise_pictures(tmp_path, [(56, 56), (84, 56)]))
    arguments = [str(config), f"run.folder={tmp_path}", "train.steps=2", *ON_CPU]
    if launcher == "none":
        processes = [started("one_gpu.sh", *arguments, "backend.type=deepspeed", "backend.zero_stage=3")]
    elif launcher == "deepspeed":
        processes = [started("eight_gpus_deepspeed.sh", *arguments, MMRL_GPUS="2")]
    else:  # both are this one
        where = {"MMRL_GPUS": "1", "MMRL_FIRST": "127.0.0.1", "MMRL_PORT": str(free_port())}
        processes = [started("two_machines.sh", *arguments, **where) for _ in range(2)]
    ended_well(processes)
    assert [row["step"] for row in read_metrics(tmp_path / "tiny" / "metrics.jsonl")] == [0, 1]
    seal = checkpoints(tmp_path / "tiny")[-1].seal
    assert seal is not None
    assert seal.ranks == ranks
