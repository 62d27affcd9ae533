"""Ranks of a real `mmrl` command, started as a launcher does, with a fault in one of them where a test wants it."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")  # before deepspeed is imported, which looks for a GPU's compiler

from tests.ranks.three_ranks import strike
from tests.training.killed_run import PRELOADED, command


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What strikes a rank inside a function of ours, the n-th time it is called."""

    rank: int
    place: str  # package.module:name, or :Class.name
    kind: str  # killed, frozen, hangs
    call: int = 1


def forkserver(*more: str) -> Any:
    """Processes are forked from one that has imported everything, so that each of them starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ranks.launched", *PRELOADED, *more])
    return context


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(
    context: Any, arguments: Sequence[str], folder: Path, *, count: int = 2, fault: Fault | None = None
) -> list[BaseProcess]:
    """The ranks of `mmrl ARGUMENTS`. What each says goes to `folder`/<rank>/said.txt."""
    port = free_port()
    processes = [
        context.Process(target=on_a_rank, args=(rank, count, port, list(arguments), folder, fault))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def on_a_rank(rank: int, count: int, port: int, arguments: list[str], folder: Path, fault: Fault | None) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank)
    )
    own = folder / str(rank)
    own.mkdir(exist_ok=True)
    if fault is not None and fault.rank == rank:
        put_in(fault, folder)
    command(arguments, own)


def said(folder: Path, rank: int) -> str:
    return (folder / str(rank) / "said.txt").read_text()


def put_in(fault: Fault, folder: Path) -> None:
    """`folder`/struck tells when it has struck."""
    module, _, path = fault.place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    calls = 0

    def struck(*args: Any, **keys: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fault.call:
            (folder / "struck").touch()
            strike(fault.kind)
        return real(*args, **keys)

    setattr(owner, name, struck)
