"""One rank is killed, freezes, hangs or fails: the others end within a bounded time and name it. Real processes."""

from __future__ import annotations

import multiprocessing
import re
import socket
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.ranks.three_ranks import work

COUNT = 3
BOUND = 60.0  # seconds; some ten are what it takes, the rest is for a busy machine


@pytest.fixture(scope="module")
def context() -> Any:
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["tests.ranks.three_ranks"])
    return forkserver


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "victim", "reason"),
    [
        ("killed", 0, "rank 0 is gone"),
        ("killed", 1, "rank 1 has given no sign of life"),
        ("frozen", 0, "rank 0 has given no sign of life"),
        ("hangs", 1, r"Not waiting: rank 1 is at .*three_ranks.py:\d+ \(sleeps_forever\)"),
        ("raises", 1, r"rank 1 has ended \(RunError: no sample can be used\)"),
    ],
)
def test_the_others_end_and_name_it(context: Any, tmp_path: Path, fault: str, victim: int, reason: str) -> None:
    port = free_port()
    processes: list[BaseProcess] = [
        context.Process(target=work, args=(rank, COUNT, port, victim, fault, tmp_path)) for rank in range(COUNT)
    ]
    for process in processes:
        process.start()
    while not (tmp_path / "struck").exists():
        assert all(process.is_alive() for process in processes)
        time.sleep(0.01)
    struck = time.monotonic()
    try:
        for rank, process in enumerate(processes):
            if rank == victim:
                continue
            process.join(max(0.1, BOUND - (time.monotonic() - struck)))
            assert process.exitcode == 2, f"rank {rank} has not ended"
            said = (tmp_path / f"{rank}.txt").read_text()
            assert re.search(reason, said), said
            assert "--resume" in said
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "victim"), [("none", 1), ("slow", 1), ("alone", 0), ("mute", 0)])
def test_nobody_is_accused_of_a_run_that_goes_well(context: Any, tmp_path: Path, fault: str, victim: int) -> None:
    port = free_port()
    processes = [
        context.Process(target=work, args=(rank, COUNT, port, victim, fault, tmp_path)) for rank in range(COUNT)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * COUNT
    assert not list(tmp_path.glob("*.txt"))
