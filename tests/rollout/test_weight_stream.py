"""Weights through buckets: what is sent arrives, in any format and size, and a partner that is gone is noticed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmrl.rollout.weight_stream import Pair, buckets, read_file, received, send, write_file

WEIGHTS = [
    ("a", torch.arange(6, dtype=torch.float32).view(2, 3)),
    ("b", torch.tensor([1.5, -2.0, 3.25], dtype=torch.bfloat16)),  # 6 bytes: the next begins after padding
    ("c", torch.randn(5, 7, generator=torch.Generator().manual_seed(0))),
    ("scalar", torch.tensor(3.0)),
    ("turned", torch.arange(6.0).view(2, 3).T),  # not contiguous
]


def pairs(count: int, *, seconds: float = 20.0) -> tuple[list[Pair], list[Pair]]:
    """The trainer's ends and the servers'."""
    ours = [
        Pair(rank=0, host="127.0.0.1", port=0, device="cpu", join_seconds=20.0, seconds=seconds) for _ in range(count)
    ]
    theirs = [
        Pair(rank=1, host="127.0.0.1", port=pair.port, device="cpu", join_seconds=20.0, seconds=seconds)
        for pair in ours
    ]
    for mine, other in zip(ours, theirs, strict=True):
        meeting = threading.Thread(target=other.join)
        meeting.start()
        mine.join()
        meeting.join()
    return ours, theirs


def test_buckets_keep_order_and_size() -> None:
    sizes = [[name for name, _ in bucket] for bucket in buckets(WEIGHTS, size=30)]
    assert sizes == [["a", "b"], ["c"], ["scalar", "turned"]]  # 24 + 6, 140 alone, 4 + 24


def test_two_servers_get_every_tensor_as_it_was() -> None:
    ours, theirs = pairs(2)
    got: list[dict[str, Tensor]] = [{}, {}]

    def take(n: int) -> None:
        got[n] = {name: value.clone() for name, value in received(theirs[n])}

    takers = [threading.Thread(target=take, args=(n,)) for n in range(2)]
    for taker in takers:
        taker.start()
    for bucket in [*buckets(WEIGHTS, size=30), []]:
        assert send(bucket, ours) == [None, None]
    for taker in takers:
        taker.join()
    for one in got:
        assert list(one) == [name for name, _ in WEIGHTS]
        assert all(torch.equal(one[name], value) and one[name].dtype == value.dtype for name, value in WEIGHTS)


def test_a_partner_that_does_not_take_its_weights_is_noticed_and_the_other_gets_them() -> None:
    ours, theirs = pairs(2, seconds=2.0)
    got: dict[str, Tensor] = {}

    def take() -> None:
        got.update({name: value.clone() for name, value in received(theirs[1])})

    taker = threading.Thread(target=take)
    taker.start()
    theirs[0] = None  # type: ignore[call-overload]
    failed: set[int] = set()
    for bucket in [*buckets([("big", torch.randn(2000, 1000))]), []]:
        failed |= {n for n, error in enumerate(send(bucket, ours)) if error is not None}
    taker.join()
    assert failed == {0}
    assert list(got) == ["big"]


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    write_file(WEIGHTS, tmp_path / "w.safetensors")
    found = dict(read_file(tmp_path / "w.safetensors"))
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in WEIGHTS)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_nobody_at_the_other_end_is_an_error_in_time() -> None:
    with pytest.raises(RuntimeError):
        Pair(rank=1, host="127.0.0.1", port=1, device="cpu", join_seconds=1.0, seconds=1.0)
