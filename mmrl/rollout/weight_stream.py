"""Weights from the trainer to one server: over a process group of the two, in flattened buckets, or as a file.

Each pair has a group of its own (gloo between CPUs, NCCL between GPUs), so that a server that dies takes nobody along;
a bucket is on its way to all servers at once. What a bucket holds travels before it, so the trainer never needs to know
the whole list: with adapters or sharded weights the next tensor does not exist yet.

    header: names, formats, shapes as JSON          its length first; 0 ends the stream
    bytes:  the tensors one after the other
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
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

Bucket = list[tuple[str, Tensor]]


class Pair:
    """A process group of trainer (rank 0) and one server (rank 1). Does not touch torch's default group."""

    def __init__(self, *, rank: int, host: str, port: int, device: str, join_seconds: float, seconds: float) -> None:
        """The trainer listens on `port` (0: any free one, then see `port`). Raises RuntimeError where the two do not
        meet within `join_seconds`, and later where a tensor takes more than `seconds`.
        """
        limit = timedelta(seconds=seconds)
        patience = timedelta(seconds=join_seconds)
        store = dist.TCPStore(host, port, 2, is_master=rank == 0, timeout=patience, wait_for_workers=False)
        self.port = store.port
        self._store = store
        self._rank = rank
        self._limit = limit
        self._device = torch.device(device)
        self._group: Any = None

    def join(self) -> None:
        """Meet the other side; both have to call it."""
        prefixed = dist.PrefixStore("weights", self._store)
        if self._device.type == "cuda":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = self._limit
            self._group = dist.ProcessGroupNCCL(prefixed, self._rank, 2, options)
        else:
            self._group = dist.ProcessGroupGloo(prefixed, self._rank, 2, self._limit)

    def start(self, value: Tensor) -> Any:
        """Begin to hand `value` from rank 0 to rank 1; the returned work is waited for."""
        options = dist.BroadcastOptions()
        options.rootRank = 0
        options.rootTensor = 0
        return self._group.broadcast([value], options)

    def hand_over(self, value: Tensor) -> Tensor:
        """`start`, and wait."""
        self.start(value).wait(self._limit)
        return value

    @property
    def device(self) -> torch.device:
        """Where tensors that it hands over live."""
        return self._device


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


def send(bucket: Bucket, pairs: Sequence[Pair]) -> list[Exception | None]:
    """One bucket to all of them at once; per pair what went wrong. An empty bucket ends the stream."""
    header = json.dumps([(name, str(v.dtype).removeprefix("torch."), list(v.shape)) for name, v in bucket]).encode()
    parts = [torch.tensor([len(header) if bucket else 0], dtype=torch.int64)]
    if bucket:
        parts += [torch.frombuffer(bytearray(header), dtype=torch.uint8), _flat(bucket)]
    works: list[list[Any]] = []
    failed: list[Exception | None] = []
    for pair in pairs:
        try:
            works.append([pair.start(part.to(pair.device)) for part in parts])
            failed.append(None)
        except RuntimeError as error:
            works.append([])
            failed.append(error)
    for n, work in enumerate(works):
        try:
            for one in work:
                one.wait()
        except RuntimeError as error:
            failed[n] = error
    return failed


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
