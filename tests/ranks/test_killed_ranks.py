"""kill -9 of one rank or of both at random moments under ZeRO: what goes on is the uninterrupted run, bit for bit."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.training.checkpoint import checkpoints
from mmrl.training.seal import damage
from tests import toy
from tests.ranks.launched import forkserver, said, start
from tests.training.killed_run import STEPS, write_config
from tests.training.same_checkpoint import assert_same_checkpoint
from tests.training.same_run import rows, traced

KILLS = 2  # of each stage: of one rank, then of both
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this build of torch has no gloo"),
]


@pytest.fixture(scope="module")
def context() -> Any:
    pytest.importorskip("deepspeed")
    made = forkserver("mmrl.backend.deepspeed_backend", "deepspeed")
    first = made.Process(target=time.sleep, args=(0.0,))  # with it everything is imported: not in the time of a run
    first.start()
    first.join()
    return made


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    return write_config(folder, toy.noise_pictures(folder, [(56, 56), (84, 56)]))


def arguments(config: Path, folder: Path, stage: int) -> list[str]:
    begun = (folder / "tiny" / "config.yaml").is_file()
    return [
        "train",
        str(config),
        f"run.folder={folder}",
        "backend.type=deepspeed",
        f"backend.zero_stage={stage}",
        "backend.silent_after_seconds=4",
        "--quiet",
        *(["--resume"] if begun else []),
    ]


@pytest.mark.parametrize("stage", [1, 3])
def test_killed_ranks_change_nothing(stage: int, context: Any, config: Path, tmp_path: Path) -> None:
    straight, folder = tmp_path / "straight", tmp_path / "killed"
    for one in (straight, folder):
        one.mkdir()
    began = time.monotonic()
    for rank, process in enumerate(start(context, arguments(config, straight, stage), straight)):
        process.join(300)
        assert process.exitcode == 0, said(straight, rank)
    seconds = time.monotonic() - began
    moments = random.Random(stage)
    kills = 0
    while kills < KILLS:
        processes = start(context, arguments(config, folder, stage), folder)
        victims = processes if kills % 2 else [moments.choice(processes)]
        deadline = time.monotonic() + moments.uniform(0.3, 0.9) * seconds
        while time.monotonic() < deadline and all(process.is_alive() for process in processes):
            time.sleep(0.005)
        if not all(process.is_alive() for process in processes):
            break  # it has come to its end before
        for victim in victims:
            victim.kill()
        kills += 1
        for rank, process in enumerate(processes):
            process.join(90)
            assert process.exitcode == (-9 if process in victims else 2), said(folder, rank)
            if process not in victims:
                assert f"rank {1 - rank} {'has given no sign of life' if rank == 0 else 'is gone'}" in said(
                    folder, rank
                )
        assert all(damage(found.folder) is None for found in checkpoints(folder / "tiny"))
    assert kills > 0
    for rank, process in enumerate(start(context, arguments(config, folder, stage), folder)):
        process.join(300)
        assert process.exitcode == 0, said(folder, rank)
    assert rows(folder / "tiny") == rows(straight / "tiny")
    assert traced(folder / "tiny") == traced(straight / "tiny")
    mine, theirs = (checkpoints(run / "tiny")[-1] for run in (folder, straight))
    assert mine.step == theirs.step == STEPS
    assert mine.seal is not None
    assert mine.seal.ranks == 2
    assert_same_checkpoint(mine, theirs)
