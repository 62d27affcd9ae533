"""What a rank does in `test_rank_watch.py`: it adds up numbers with the others until something happens to one."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from mmrl.errors import RunError
from mmrl.rank_watch import RankWatch
from mmrl.ranks import join, leave

SILENT_AFTER, HUNG_AFTER = 4.0, 7.0


def work(rank: int, count: int, port: int, victim: int, fault: str, folder: Path) -> None:
    """`fault` strikes `victim`: killed, frozen, hangs, raises, slow, mute, none; "alone": the first works, others wait.

    What is said goes to `folder`/<rank>.txt.
    """
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
        with RankWatch(ranks, silent_after=SILENT_AFTER, hung_after=HUNG_AFTER, tell=tell):
            for step in range(30):
                if step == 10 and rank == victim:
                    (folder / "struck").touch()
                    strike(fault)
                if step == 10 and fault == "alone":
                    ranks.first_does(hands_out_work)
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
    elif fault == "mute":  # no thread of Python runs meanwhile
        ctypes.PyDLL(None).sleep(int(SILENT_AFTER) + 1)


def hands_out_work() -> None:
    """For longer than a rank may hang: the main thread is found at the same place whenever one looks."""
    with ThreadPoolExecutor(1) as pool:
        for _ in pool.map(time.sleep, [0.02] * int((HUNG_AFTER + 3.0) / 0.02)):
            pass


def sleeps_forever() -> None:
    time.sleep(3600)
