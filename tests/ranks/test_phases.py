"""A rank is killed or hangs in any phase of a run: the others end within a bounded time and name it. Real processes."""

from __future__ import annotations

import re
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tests.ranks.launched import Fault, forkserver, said, start
from tests.training.killed_run import write_config

SILENT_AFTER, HUNG_AFTER = 4.0, 12.0
BOUND = 90.0  # seconds; twenty are what it takes, the rest is for a busy machine

CUT = "mmrl.training.sft:masked_sum"
ASK = "mmrl.rollout.transformers_engine:TransformersEngine.generate"
SAVE = "mmrl.policy.load:LoadedModel.save"
DATA = "mmrl.pipeline.stages:check_same_data"

SFT = ("sft.steps=3", "sft.samples_per_step=2", "sft.thoughts=['A thought.']", "sft.warmup_steps=0")
SCREENING = ("screening.rollouts=2",)
PHASES = [
    pytest.param(Fault(rank=1, place=CUT, kind="killed", call=2), SFT, "rank 1 has given no sign", id="cold start"),
    pytest.param(Fault(rank=0, place=SAVE, kind="hangs"), SFT, "Not waiting: rank 0 is at", id="writing a model"),
    pytest.param(Fault(rank=0, place=ASK, kind="killed"), SCREENING, "rank 0 is gone", id="screening"),
    pytest.param(Fault(rank=1, place=ASK, kind="hangs"), (), "Not waiting: rank 1 is at", id="evaluation"),
    pytest.param(Fault(rank=0, place=DATA, kind="hangs"), (), "Not waiting: rank 0 is at", id="data"),
]


@pytest.fixture(scope="module")
def context() -> Any:
    return forkserver("mmrl.training.sft", "mmrl.pipeline.screening", "mmrl.evaluation.evaluate")


def arguments(folder: Path, *settings: str) -> list[str]:
    """`mmrl run` with every stage that the settings ask for."""
    config = write_config(folder, toy.noise_pictures(folder, [(56, 56), (84, 56)]))
    return [
        "run",
        str(config),
        f"run.folder={folder}",
        f"data.test={folder / 'train.jsonl'}",
        "train.steps=1",
        "evaluation.samples_per_prompt=1",
        "evaluation.ks=[1]",
        f"backend.silent_after_seconds={SILENT_AFTER}",
        *settings,
    ]


def wait_until_struck(folder: Path, witness: BaseProcess, rank: int) -> None:
    while not (folder / "struck").exists():
        assert witness.is_alive(), said(folder, rank)
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "settings", "reason"), PHASES)
def test_a_lost_rank_is_named_in_every_phase(
    context: Any, tmp_path: Path, fault: Fault, settings: tuple[str, ...], reason: str
) -> None:
    hung = f"backend.hung_after_seconds={HUNG_AFTER}"
    processes = start(context, arguments(tmp_path, hung, *settings), tmp_path, fault=fault)
    left = 1 - fault.rank
    try:
        wait_until_struck(tmp_path, processes[left], left)
        processes[left].join(BOUND)
        assert processes[left].exitcode == 2, said(tmp_path, left)
        found = said(tmp_path, left)
        assert re.search(reason, found), found
        assert "--resume" in found
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_in_a_phase_without_steps_ends_all_with_0(context: Any, tmp_path: Path, rank: int) -> None:
    """… also the one that is waiting for the other, whose end it sees before it can hear the signal."""
    processes = start(context, arguments(tmp_path), tmp_path, fault=Fault(rank=rank, place=ASK, kind="hangs"))
    try:
        wait_until_struck(tmp_path, processes[1 - rank], 1 - rank)
        time.sleep(2.0)  # the other is waiting now
        for process in processes:
            process.terminate()
        for number, process in enumerate(processes):
            process.join(BOUND)
            assert process.exitcode == 0, said(tmp_path, number)
            assert "Ended by SIGTERM" in said(tmp_path, number)
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.slow
def test_who_does_not_come_is_named(tmp_path: Path, context: Any) -> None:
    """Two of three ranks are there: both say who is missing, and do not wait for ever."""
    from tests.ranks.launched import free_port

    port = free_port()
    processes = [context.Process(target=_comes, args=(rank, port, tmp_path)) for rank in (0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [2, 2]
    for rank in (0, 2):
        assert "rank 1 did not come within 3 s" in (tmp_path / f"{rank}.txt").read_text()


def _comes(rank: int, port: int, folder: Path) -> None:
    import os
    import sys
    from datetime import timedelta

    from mmrl.errors import RunError
    from mmrl.ranks import join

    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="3", LOCAL_RANK=str(rank)
    )
    try:
        join("cpu", within=timedelta(seconds=3))
    except RunError as error:
        (folder / f"{rank}.txt").write_text(str(error))
        if rank == 0:  # it keeps the store in which the other looks
            import time

            time.sleep(2)
        sys.exit(2)
