"""Weights from the trainer to one server: over a process group of the two, in flattened buckets, or as a file.

Each pair has a group of its own (gloo between CPUs, NCCL between GPUs), so that a server that dies takes nobody along;
a bucket is on its way to all servers at once. What a bucket holds travels before it, so the trainer never needs to know
the whole list: with adapters or sharded weights the next tensor does not exist yet.

    header: names, formats, shapes as JSON          its length first; 0 ends the stream
    bytes:  the tensors one after the other

The trainer is the one who gives up: a server that keeps it waiting too long, or says that it has failed, is left out of
the stream, and the others, who wait longer than the trainer does, get the rest.

NCCL's half has not been run on a GPU. There waits are polled, since NCCL's own do not block, and torch's watchdog,
which would end this process when its partner is gone, is told not to.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed

dist = cast(Any, distributed)  # what is used of it is exported at run time only

BUCKET_BYTES = 256 * 2**20
ALIGNMENT = 16  # a tensor begins at a multiple, so that it can be seen as its own format
HELLO = 1_729  # handed over when a pair meets
GRACE_SECONDS = 2.0  # for a server to say why the connection broke; for us to give up before gloo does
NCCL_ERRORS = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
_environment = threading.Lock()

Bucket = list[tuple[str, Tensor]]


class Pair:
    """A process group of trainer (rank 0) and one server (rank 1). Does not touch torch's default group."""

    def __init__(self, *, rank: int, host: str, port: int, device: str, join_seconds: float, seconds: float) -> None:
        """The trainer listens on `port` (0: any free one, then see `port`). Raises RuntimeError where the two do not
        meet within `join_seconds`, and later where a tensor takes more than `seconds`.
        """
        patience = timedelta(seconds=join_seconds)
        store = dist.TCPStore(host, port, 2, is_master=rank == 0, timeout=patience, wait_for_workers=False)
        self.port = store.port
        self.seconds = seconds
        self._store: Any = store
        self._rank = rank
        self._patience = patience
        # By number: a rank's other threads begin at GPU 0.
        self._device = torch.device(device if device != "cuda" else f"cuda:{torch.cuda.current_device()}")
        self._group: Any = None

    def join(self) -> None:
        """Meet the other side and hand a number over; both have to call it. Raises RuntimeError where that does not
        work within the seconds given.

        The number, because what cannot work has to show here: NCCL connects at the first tensor. In a thread, because
        nothing bounds that wait.
        """
        meeting: Future[None] = Future()
        threading.Thread(target=_told, args=(meeting, self._meet), daemon=True).start()
        try:
            meeting.result(2 * self._patience.total_seconds())
        except TimeoutError as error:
            self.close()
            raise RuntimeError("the two did not meet in time") from error
        except BaseException:
            self.close()
            raise

    def _meet(self) -> None:
        store = dist.PrefixStore("weights", self._store)
        store.set(str(self._rank), "here")
        store.wait([str(1 - self._rank)], self._patience)
        if self._device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = timedelta(seconds=4 * self.seconds)  # of its watchdog; ours ends before
            with _environment:
                before = os.environ.get(NCCL_ERRORS)
                os.environ[NCCL_ERRORS] = "0"
                try:
                    self._group = dist.ProcessGroupNCCL(store, self._rank, 2, options)
                finally:
                    if before is None:
                        del os.environ[NCCL_ERRORS]
                    else:
                        os.environ[NCCL_ERRORS] = before
        else:
            self._group = dist.ProcessGroupGloo(store, self._rank, 2, self._patience)
        said = torch.full((1,), HELLO if self._rank == 0 else 0, dtype=torch.int64, device=self._device)
        if int(self._hand_over(said, self._patience.total_seconds())) != HELLO:
            raise RuntimeError("what came is not what was sent")

    def start(self, value: Tensor) -> Any:
        """Begin to hand `value` from rank 0 to rank 1; the returned work is waited for with `over`."""
        return self._begin(value, self.seconds)

    def hand_over(self, value: Tensor) -> Tensor:
        """`start`, and wait. Raises RuntimeError; the pair is parted then."""
        return self._hand_over(value, self.seconds)

    def over(self, works: Sequence[Any]) -> bool:
        """Whether all have ended. Raises RuntimeError where one has failed."""
        if not all(work.is_completed() for work in works):
            return False
        for work in works:
            work.wait()  # of gloo: raises what went wrong; of NCCL: what the device does next comes after it
            if self._device.type == "cuda" and isinstance(error := work.exception(), Exception):
                raise RuntimeError(str(error)) from error
        return True

    def close(self) -> None:
        """Part, which the other side notices. Waits for nothing, but this process does not end before what is on its
        way over gloo has, in the seconds given: gloo's threads would abort it.
        """
        self._store = None
        if self._group is not None:
            nccl = self._device.type == "cuda"
            threading.Thread(target=_end, args=(self._let_go(), nccl), daemon=nccl).start()

    def _let_go(self) -> Any:
        group, self._group = self._group, None
        return group

    @property
    def device(self) -> torch.device:
        """Where tensors that it hands over live."""
        return self._device

    def _hand_over(self, value: Tensor, seconds: float) -> Tensor:
        work, until = self._begin(value, seconds), time.monotonic() + seconds
        pause = _Pause()
        while not self.over([work]):
            if time.monotonic() > until:
                self.close()
                raise RuntimeError(f"nothing was handed over within {seconds:g} seconds")
            pause.take()
        return value

    def _begin(self, value: Tensor, seconds: float) -> Any:
        if self._group is None:
            raise RuntimeError("the two have parted")
        options = dist.BroadcastOptions()
        options.rootRank = 0
        options.rootTensor = 0
        options.timeout = timedelta(seconds=seconds + GRACE_SECONDS)
        options.asyncOp = True
        return self._group.broadcast([value], options)


@dataclass(slots=True, eq=False)
class Taker:
    """A server that a stream goes to."""

    pair: Pair
    reply: Future[Any]  # to the request by which it takes the weights: done before their end, it has given up
    seconds: float  # that the trainer still waits for it, in all


def buckets(weights: Iterable[tuple[str, Tensor]], size: int = BUCKET_BYTES) -> Iterator[Bucket]:
    """The weights in order, so many together as fit `size` bytes, at least one."""
    bucket: Bucket = []
    held = 0
    for name, value in weights:
        if bucket and held + value.nbytes > size:
            yield bucket
            bucket, held = [], 0
        bucket.append((name, value.detach()))
        held += value.nbytes
    if bucket:
        yield bucket


def send(bucket: Bucket, takers: Sequence[Taker]) -> list[Exception | None]:
    """One bucket to all of them at once; per taker what went wrong, in the server's own words where it has said why. An
    empty bucket ends the stream.
    """
    header = json.dumps([(name, str(v.dtype).removeprefix("torch."), list(v.shape)) for name, v in bucket]).encode()
    parts = [torch.tensor([len(header) if bucket else 0], dtype=torch.int64)]
    if bucket:
        parts += [torch.frombuffer(bytearray(header), dtype=torch.uint8), _flat(bucket)]
    failed: list[Exception | None] = [None] * len(takers)
    under_way: dict[int, list[Any]] = {}
    for n, taker in enumerate(takers):
        failed[n] = _said(taker, last=not bucket)
        if failed[n] is None:
            try:
                under_way[n] = [taker.pair.start(part.to(taker.pair.device)) for part in parts]
            except RuntimeError as error:
                failed[n] = _why(taker, error)
    began = time.monotonic()
    pause = _Pause()
    while under_way:
        for n, works in list(under_way.items()):
            failed[n], ended = _state(takers[n], works, last=not bucket, waited=time.monotonic() - began)
            if ended:
                del under_way[n]
                takers[n].seconds -= time.monotonic() - began
        if under_way:
            pause.take()
    return failed


def _state(taker: Taker, works: Sequence[Any], *, last: bool, waited: float) -> tuple[Exception | None, bool]:
    """(what is wrong with it, whether nothing more is waited for)."""
    try:
        if taker.pair.over(works):
            return None, True
    except RuntimeError as error:
        return _why(taker, error), True
    told = _said(taker, last=last)
    if told is None and waited > taker.seconds:
        told = TimeoutError(f"it kept the others waiting for {taker.pair.seconds:g} seconds")
    return told, told is not None


def _said(taker: Taker, *, last: bool) -> Exception | None:
    """What the server's reply says that came before the end of the stream, if one did."""
    if not taker.reply.done():
        return None
    error = taker.reply.exception()
    if isinstance(error, Exception):
        return error
    return None if last else RuntimeError("it says that it has all weights before they were sent")


def _why(taker: Taker, error: Exception) -> Exception:
    """The server's own word for a broken connection, should it come; else that."""
    wait([taker.reply], timeout=GRACE_SECONDS)
    return _said(taker, last=True) or error


class _Pause:
    """Waits that grow, so that a short stream is not held up and a long one takes no processor."""

    def __init__(self) -> None:
        self._seconds = 1e-4

    def take(self) -> None:
        time.sleep(self._seconds)
        self._seconds = min(2 * self._seconds, 1e-3)


def _told(meeting: Future[None], meet: Callable[[], None]) -> None:
    try:
        meet()
    except BaseException as error:
        meeting.set_exception(error)
    else:
        meeting.set_result(None)


def _end(group: Any, abort: bool) -> None:
    """In a thread that is the last to hold the group, whose own end waits for what is on its way."""
    if abort:
        group.abort()


def received(pair: Pair) -> Iterator[tuple[str, Tensor]]:
    """On the server: the tensors as they come. Raises RuntimeError where the trainer stops sending."""
    while True:
        size = int(pair.hand_over(torch.zeros(1, dtype=torch.int64, device=pair.device)))
        if not size:
            return
        header = pair.hand_over(torch.zeros(size, dtype=torch.uint8, device=pair.device))
        fields = json.loads(bytes(header.cpu().tolist()))
        shapes = [(name, getattr(torch, dtype), shape) for name, dtype, shape in fields]
        sizes = [_padded(torch.Size(shape).numel() * dtype.itemsize) for _, dtype, shape in shapes]
        data = pair.hand_over(torch.zeros(sum(sizes), dtype=torch.uint8, device=pair.device))
        for (name, dtype, shape), own in zip(shapes, data.split(sizes), strict=True):
            used = torch.Size(shape).numel() * dtype.itemsize
            yield name, own[:used].view(dtype).view(shape)


def write_file(weights: Iterable[tuple[str, Tensor]], path: Path) -> None:
    """All of them as one safetensors file, whole or not at all."""
    aside = path.with_suffix(".partial")
    save_file({name: value.detach().cpu().contiguous() for name, value in weights}, aside)
    aside.rename(path)


def read_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    """What `write_file` wrote."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # no dict
            yield name, file.get_tensor(name)


def _flat(bucket: Bucket) -> Tensor:
    total = sum(_padded(value.nbytes) for _, value in bucket)
    out = torch.zeros(total, dtype=torch.uint8, device=bucket[0][1].device)
    at = 0
    for _, value in bucket:
        out[at : at + value.nbytes] = value.contiguous().flatten().view(torch.uint8)
        at += _padded(value.nbytes)
    return out


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
