"""Two ranks against one: every entry's loss and gradient, each rank holding whole groups and only its own rows.

Credit sees the whole step on every rank; from then on a rank knows its own rows and what `add_up` tells it. First with
two threads that meet at every sum, then with two processes and torch.distributed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmrl.algorithms.algorithm import Algorithm
from mmrl.batch import AddUp, PolicyOutputs, Totals, TrainBatch
from tests.algorithms.test_invariants import ENTRIES, credit, every, groups, loss_and_gradient, random_streams

ROOT = Path(__file__).parents[2]
SHARES = (torch.arange(4), torch.arange(4, 12))  # one group of four on the first rank, two on the second

Result = tuple[Tensor, Tensor]


def one_rank(algorithm: Algorithm, batch: TrainBatch, policy: Tensor, add_up: AddUp | None = None) -> Result:
    """What one rank does of an update: totals, couplings, then its micro-batches of two rows."""
    totals = Totals.of(batch) if add_up is None else Totals.of(batch, add_up)
    if algorithm.couplings:
        batch = algorithm.couple(batch, policy, totals)
    loss, gradients = torch.zeros((), dtype=torch.float64), []
    for rows in torch.arange(len(policy)).split(2):
        share = loss_and_gradient(algorithm, batch.select(rows), policy[rows], totals)
        loss = loss + share[0]
        gradients.append(share[1])
    return loss, torch.cat(gradients)


class Meeting:
    """Sums over threads: each waits for the other at every call."""

    def __init__(self, ranks: int) -> None:
        self._barrier = threading.Barrier(ranks, timeout=60)
        self._shares: list[Tensor] = [torch.zeros(())] * ranks

    def add_up(self, rank: int) -> AddUp:
        def total(share: Tensor) -> Tensor:
            self._shares[rank] = share.detach()
            self._barrier.wait()
            others = torch.stack([s for i, s in enumerate(self._shares) if i != rank]).sum(dim=0)
            self._barrier.wait()
            return share + others

        return total


def on_two_threads(work: Callable[[int, AddUp], Result]) -> list[Result]:
    meeting = Meeting(2)
    found: dict[int, Result] = {}

    def run(rank: int) -> None:
        found[rank] = work(rank, meeting.add_up(rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2, "a rank failed"
    return [found[rank] for rank in range(2)]


def far(policy: Tensor) -> Tensor:
    """Away from the old policy, so that trust regions act."""
    return policy - 0.3


@every(ENTRIES)
def test_two_ranks_do_what_one_does(algorithm: Algorithm) -> None:
    policy, streams = random_streams()
    policy = far(policy)
    batch = credit(algorithm, groups(), streams).batch
    loss, gradient = one_rank(algorithm, batch, policy)
    shares = on_two_threads(
        lambda rank, add_up: one_rank(algorithm, batch.select(SHARES[rank]), policy[SHARES[rank]], add_up)
    )
    assert torch.allclose(shares[0][0] + shares[1][0], loss, atol=1e-10)
    assert torch.allclose(torch.cat([shares[0][1], shares[1][1]]), gradient, atol=1e-10)


def test_a_coupling_that_summed_its_own_rows_only_would_be_seen() -> None:
    """The two parts that do not enter linearly: without `add_up` the ranks differ from one process."""
    for name in ("chi_squared", "drpo"):
        [algorithm] = [a for a in ENTRIES if a.name == name]
        policy, streams = random_streams()
        policy = far(policy)
        batch = credit(algorithm, groups(), streams).batch
        _, gradient = one_rank(algorithm, batch, policy)
        whole = Totals.of(batch)
        deaf = [
            one_rank_with(algorithm, batch.select(rows), policy[rows], replace(whole, add_up=lambda share: share))
            for rows in SHARES
        ]
        assert not torch.allclose(torch.cat(deaf), gradient, atol=1e-6), name


def one_rank_with(algorithm: Algorithm, batch: TrainBatch, policy: Tensor, totals: Totals) -> Tensor:
    return loss_and_gradient(algorithm, algorithm.couple(batch, policy, totals), policy, totals)[1]


@every(ENTRIES)
def test_a_micro_batch_of_nobody_counts_for_nobody(algorithm: Algorithm) -> None:
    """What a rank computes that has fewer micro-batches than another: a loss of 0 whose gradient is 0, not nothing."""
    policy, streams = random_streams()
    batch = credit(algorithm, groups(), streams).batch
    nobody = batch.select(torch.arange(0), width=1)
    leaf = policy[:1, :1].clone().requires_grad_()
    outputs = PolicyOutputs(logprobs=leaf[:0], entropy=leaf[:0].detach())
    terms = algorithm.loss(outputs, nobody, Totals.of(batch))
    terms.loss.backward()
    assert float(terms.loss.detach()) == 0.0
    assert leaf.grad is not None
    assert float(leaf.grad) == 0.0
    assert all(value == 0.0 for value in terms.sums.values())


PROCESS = """
import sys, torch, torch.distributed as dist
from tests.algorithms.test_ranks import ENTRIES, SHARES, credit, far, groups, one_rank, random_streams
rank, port, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

def add_up(share):
    total = share.detach().clone()
    dist.all_reduce(total)
    return share + (total - share.detach())

found = {}
for algorithm in ENTRIES:
    policy, streams = random_streams()
    policy = far(policy)
    batch = credit(algorithm, groups(), streams).batch
    found[algorithm.name] = one_rank(algorithm, batch.select(SHARES[rank]), policy[SHARES[rank]], add_up)
torch.save(found, f"{out}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """All entries over gloo, for real."""
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    command = [sys.executable, "-c", PROCESS]
    ranks = [
        subprocess.Popen([*command, str(rank), port, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in ranks:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for algorithm in ENTRIES:
        policy, streams = random_streams()
        policy = far(policy)
        loss, gradient = one_rank(algorithm, credit(algorithm, groups(), streams).batch, policy)
        mine, other = first[algorithm.name], second[algorithm.name]
        assert torch.allclose(mine[0] + other[0], loss, atol=1e-10), algorithm.name
        assert torch.allclose(torch.cat([mine[1], other[1]]), gradient, atol=1e-10), algorithm.name
