"""A real run on two ranks, one of which is killed: the other ends and names it, and the run can go on."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from mmrl.training.checkpoint import checkpoints
from mmrl.training.metrics import read_metrics
from tests import toy
from tests.ranks.test_rank_watch import free_port
from tests.training.killed_run import PRELOADED, command, write_config

STEPS = 40


def on_a_rank(rank: int, port: int, arguments: list[str], folder: Path) -> None:
    """`mmrl` as a launcher starts it; what it says goes to `folder`/<rank>/said.txt."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)
    )
    own = folder / str(rank)
    own.mkdir(exist_ok=True)
    command(arguments, own)


@pytest.mark.slow
def test_a_killed_rank_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, "tests.ranks.test_rank_of_a_run"])
    config = write_config(tmp_path, toy.noise_pictures(tmp_path, [(56, 56), (84, 56)]))
    arguments = [
        "train",
        str(config),
        f"run.folder={tmp_path}",
        f"train.steps={STEPS}",
        "backend.silent_after_seconds=4",
    ]

    def start(more: list[str]) -> list[BaseProcess]:
        port = free_port()
        processes: list[Any] = [
            context.Process(target=on_a_rank, args=(rank, port, [*arguments, *more], tmp_path)) for rank in range(2)
        ]
        for process in processes:
            process.start()
        return processes

    def said(rank: int) -> str:
        return (tmp_path / str(rank) / "said.txt").read_text()

    first, second = start([])
    try:
        deadline = time.monotonic() + 120
        while not checkpoints(tmp_path / "tiny"):
            assert first.is_alive(), said(0)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second.kill()
        first.join(60)
        assert first.exitcode == 2, said(0)
        assert "rank 1 has given no sign of life" in said(0)
        assert "--resume" in said(0)
    finally:
        first.kill()
    assert len(read_metrics(tmp_path / "tiny" / "metrics.jsonl")) < STEPS
    saved = checkpoints(tmp_path / "tiny")[-1]
    assert saved.seal is not None
    assert saved.seal.ranks == 2
    again = start(["--resume", f"train.steps={saved.step + 2}"])
    for rank, process in enumerate(again):
        process.join(120)
        assert process.exitcode == 0, said(rank)
    assert [row["step"] for row in read_metrics(tmp_path / "tiny" / "metrics.jsonl")] == list(range(saved.step + 2))
