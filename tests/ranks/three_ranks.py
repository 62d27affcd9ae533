"""What a rank does in `test_rank_watch.py`: it adds up numbers with the others until something happens to one."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch

from mmrl.errors import RunError
from mmrl.rank_watch import RankWatch
from mmrl.ranks import join, leave

SILENT_AFTER, HUNG_AFTER = 4.0, 7.0


def work(rank: int, count: int, port: int, victim: int, fault: str, folder: Path) -> None:
    """`fault` strikes `victim`: killed, frozen, hangs, raises, or none. What is said goes to `folder`/<rank>.txt."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    ranks = join("cpu")
    said = folder / f"{rank}.txt"

    def tell(text: str) -> None:
        with said.open("a") as file:
            file.write(text + "\n")

    try:
        with RankWatch(ranks, silent_after=SILENT_AFTER, hung_after=HUNG_AFTER, tell=tell) as watch:
            for step in range(30):
                watch.step = step
                if step == 10 and rank == victim:
                    (folder / "struck").touch()
                    strike(fault)
                total = ranks.add_up(torch.ones(3))
                assert total.tolist() == [float(count)] * 3
                time.sleep(0.01)
    except RunError as error:
        tell(str(error))
        sys.exit(2)
    leave()


def strike(fault: str) -> None:
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "frozen":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "hangs":
        sleeps_forever()
    elif fault == "raises":
        raise RunError("no sample can be used")
    elif fault == "slow":
        time.sleep(SILENT_AFTER + 1.0)


def sleeps_forever() -> None:
    time.sleep(3600)
