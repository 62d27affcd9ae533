"""The processes that train together. A *rank* is one of them; each holds the whole policy or a part of it.

    ranks = join(device)             # in a process that torchrun or deepspeed started; ALONE in any other
    ranks.add_up(share)              # the sum of what all ranks hand in
    ranks.most([3, 1])               # the largest of each, over all ranks
    ranks.gather(value)              # everybody's value, in the order of ranks
    ranks.first_does(work)           # on the first rank only; its error is everybody's
    ranks.apart()                    # the same ranks in a group of their own, for a thread beside this one

Every rank must call these in the same order: each is a meeting. What all ranks compute alike from values that were
gathered needs no further word: who is asked, what is dropped, what credit is given.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mmrl.errors import ConfigError, MmrlError, RunError

if TYPE_CHECKING:  # torch is imported where ranks meet: reading a run needs none
    import torch
    from torch import Tensor

T = TypeVar("T")

# Longer than the longest stage that one rank does while the others wait (building data, screening). A rank that died or
# hangs is not waited for that long: `rank_watch.py`.
PATIENCE = timedelta(hours=12)
MEETING = timedelta(minutes=10)  # until all have come
SETTLING = 0.2  # seconds; milliseconds are enough on a machine that is not overloaded


@dataclass(slots=True)
class Meetings:
    """Where a rank is on the way that all go alike: for who watches it from another thread."""

    count: int = 0  # meetings begun so far
    first_works: bool = False  # this one waits for what the first rank does alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0  # 0 … count − 1 of all machines
    count: int = 1
    local: int = 0  # number on its own machine: which of its GPUs it uses
    meetings: Meetings = field(default_factory=Meetings, compare=False, repr=False)
    group: Any = None  # torch's process group in which they meet; None: the default one

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and speaks to people."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def add_up(self, share: Tensor) -> Tensor:
        """The sum of what all ranks hand in, on every rank; its derivative is that of the own share."""
        if not self.several:
            return share
        import torch.distributed as dist

        self.meetings.count += 1
        own = share.detach()
        total = own.clone()
        dist.all_reduce(total, group=self.group)
        return share + (total - own) if share.requires_grad else total

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all ranks."""
        if not self.several:
            return list(values)
        import torch
        import torch.distributed as dist

        self.meetings.count += 1
        found = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        largest: list[float] = found.tolist()
        return largest

    def gather(self, value: T) -> list[T]:
        """What each rank hands in, in their order. Values must pickle; tensors in them belong on the CPU."""
        if not self.several:
            return [value]
        import torch.distributed as dist

        self.meetings.count += 1
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    def share(self, things: Sequence[T]) -> list[T]:
        """This rank's share of things that all ranks know: every `count`-th; shares differ by one at most."""
        return list(things[self.rank :: self.count])

    def first_does(self, work: Callable[[], T]) -> T:
        """The first rank works, the others wait for what came of it. What stops the first stops all."""
        if not self.several:
            return work()
        result: Any = None
        failure: BaseException | None = None
        if self.first:
            try:
                result = work()
            except MmrlError as error:
                failure = error
            except BaseException as error:
                self.gather((None, RunError(f"rank 0 failed: {type(error).__name__}: {error}")))
                raise
        self.meetings.first_works = not self.first
        came = self.gather((result, failure))[0]
        self.meetings.first_works = False
        if came[1] is not None:
            raise came[1]
        return came[0]  # type: ignore[no-any-return]

    def send(
        self, tensor: Tensor | None, *, origin: int, target: int, shape: Sequence[int], dtype: torch.dtype
    ) -> Tensor | None:
        """Move a tensor on the CPU between two ranks: what arrived, on `target` only. Others need not call it."""
        import torch
        import torch.distributed as dist

        if self.rank == origin:
            assert tensor is not None
            dist.send(tensor.contiguous(), target, group=self.group)
        elif self.rank == target:
            arrived = torch.empty(tuple(shape), dtype=dtype)
            dist.recv(arrived, origin, group=self.group)
            return arrived
        return None

    def apart(self) -> Ranks:
        """The same ranks, in a group of their own of values on the CPU: for a thread that meets them beside this one.

        What two threads say in one group would mix. All ranks must call it, in the same order.
        """
        if not self.several:
            return self
        import torch.distributed as dist

        return replace(self, group=dist.new_group(backend="gloo", timeout=PATIENCE))


ALONE = Ranks()


def by_rank(told: Sequence[Sequence[str]]) -> list[str]:
    """What each rank has to say, in their order; where it is not the first, who says it."""
    return [text if rank == 0 else f"rank {rank}: {text}" for rank, texts in enumerate(told) for text in texts]


def launched() -> bool:
    """Whether a launcher (torchrun, deepspeed) started this process, as one of several or the only one."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def join(device: str, *, within: timedelta = MEETING) -> Ranks:
    """Meet the other processes of the launch. `device`: cpu or cuda, the same on all of them.

    Reads what launchers set: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. A process that none of them
    started is alone. Raises ConfigError where a machine has fewer GPUs than processes, and RunError that names those
    who have not come in time.
    """
    if not launched():
        return ALONE
    import torch
    import torch.distributed as dist

    ranks = Ranks(
        rank=int(os.environ["RANK"]), count=int(os.environ["WORLD_SIZE"]), local=int(os.environ.get("LOCAL_RANK", "0"))
    )
    cuda = device == "cuda"
    if cuda:
        if ranks.local >= torch.cuda.device_count():
            raise ConfigError(
                f"rank {ranks.rank} is number {ranks.local} on its machine, which has {torch.cuda.device_count()} "
                "GPUs. Start as many processes as there are GPUs (torchrun --nproc-per-node, deepspeed --num_gpus)."
            )
        torch.cuda.set_device(ranks.local)
    if not dist.is_initialized():
        _form_group(device, ranks, _all_come(ranks, within))
    return ranks


def join_nobody(device: str) -> None:
    """A group of this process alone, for libraries that want one (DeepSpeed), where no launcher made one."""
    from torch.distributed import HashStore, is_initialized  # type: ignore[attr-defined]

    if not is_initialized():
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed asks there which GPU is its own
        _form_group(device, ALONE, HashStore())


def _form_group(device: str, ranks: Ranks, store: Any) -> None:
    import torch.distributed as dist

    dist.init_process_group(
        # Both: what is decided together are small tensors on the CPU, gradients are where the model is.
        backend="cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=PATIENCE,
    )


def _all_come(ranks: Ranks, within: timedelta) -> Any:
    """The store that the launch shares, once every rank has said in it that it is there."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    seconds = within.total_seconds()
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun; else the first rank keeps it
    try:
        # torch's own rendezvous waits in here for all, without a word of who is missing.
        store: Any = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            None,
            ranks.first and not kept,
            within,
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        raise RunError(
            f"rank {ranks.rank}: {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}, where all meet, was not "
            f"reached within {seconds:.0f} s. Is rank 0 (or the launcher) there, and the port open between machines?"
        ) from error
    store = PrefixStore(f"ranks/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    names = {f"here/{rank}": str(rank) for rank in range(ranks.count)}
    try:
        store.set(f"here/{ranks.rank}", "")
        store.wait(list(names), within)
    except RuntimeError as error:
        missing = _not_there(store, names)
        what = f"rank {', '.join(missing)} did not come within {seconds:.0f} s" if missing else "rank 0 has left again"
        raise RunError(
            f"rank {ranks.rank}: of {ranks.count} ranks, {what}. See what it says itself, and whether as many "
            "processes were started as WORLD_SIZE says."
        ) from error
    store.set_timeout(PATIENCE)
    return store


def _not_there(store: Any, names: Mapping[str, str]) -> list[str]:
    """The ranks whose names are not in the store; none where it is gone, and rank 0, which kept it."""
    try:
        return [rank for name, rank in names.items() if not store.check([name])]
    except RuntimeError:
        return []


def leave() -> None:
    """The opposite of `join`, at the end of a process.

    Gloo's threads let go of a tensor a moment after the meeting it was for. One that does so while Python ends aborts
    the process ("terminate called without an active exception", pytorch/pytorch#179291), and the groups themselves
    outlive this: modules imported after they were made (DeepSpeed's, torch.distributed.nn) hold them as defaults.
    """
    import torch.distributed as dist

    if dist.is_initialized():
        deepspeed: Any = sys.modules.get("deepspeed.comm")  # keeps groups itself, where it computed
        (deepspeed if deepspeed is not None and deepspeed.is_initialized() else dist).destroy_process_group()
        gc.collect()
        time.sleep(SETTLING)  # so that those threads get the interpreter's lock, and are through
