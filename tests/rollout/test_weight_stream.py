"""Weights through buckets: what is sent arrives, in any format and size, and a partner that is gone is noticed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmrl.rollout.weight_stream import Pair, Taker, buckets, read_file, received, send, write_file

WEIGHTS = [
    ("a", torch.arange(6, dtype=torch.float32).view(2, 3)),
    ("b", torch.tensor([1.5, -2.0, 3.25], dtype=torch.bfloat16)),  # 6 bytes: the next begins after padding
    ("c", torch.randn(5, 7, generator=torch.Generator().manual_seed(0))),
    ("scalar", torch.tensor(3.0)),
    ("turned", torch.arange(6.0).view(2, 3).T),  # not contiguous
]


def pairs(count: int, *, seconds: float = 20.0) -> tuple[list[Taker], list[Pair]]:
    """The trainer's ends and the servers', which are more patient."""
    ours = [
        Pair(rank=0, host="127.0.0.1", port=0, device="cpu", join_seconds=20.0, seconds=seconds) for _ in range(count)
    ]
    theirs = [
        Pair(rank=1, host="127.0.0.1", port=pair.port, device="cpu", join_seconds=20.0, seconds=2 * seconds)
        for pair in ours
    ]
    for mine, other in zip(ours, theirs, strict=True):
        meeting = threading.Thread(target=other.join)
        meeting.start()
        mine.join()
        meeting.join()
    return [Taker(pair=pair, reply=Future(), seconds=seconds) for pair in ours], theirs


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
    began = time.monotonic()
    [error, fine] = send([("big", torch.randn(2000, 1000))], ours)  # the first is there, and asks for nothing
    assert time.monotonic() - began < 4
    assert fine is None
    assert str(error) == "it kept the others waiting for 2 seconds"
    assert send([], ours[1:]) == [None]
    taker.join()
    assert list(got) == ["big"]
    theirs[0].close()
    assert ours[0].seconds < 0.1
    assert ours[1].seconds > 1.5  # waiting for the first is not laid to the second


def test_a_partner_that_is_gone_is_noticed_at_once() -> None:
    ours, theirs = pairs(1)
    theirs[0].close()
    ours[0].reply.set_exception(RuntimeError("in its own words"))
    began = time.monotonic()
    [error] = send([("w", torch.ones(3))], ours)
    assert str(error) == "in its own words"
    ours, theirs = pairs(1)
    theirs[0].close()
    [error] = send([("w", torch.ones(3))], ours)
    assert isinstance(error, RuntimeError)  # it has not said anything: gloo's own words, which vary
    assert time.monotonic() - began < 15


def test_a_partner_that_fails_is_not_waited_for_and_says_why() -> None:
    """Its vLLM raised: it has answered, and takes nothing more. Before a bucket, and while one is on its way."""
    ours, theirs = pairs(1, seconds=30.0)
    began = time.monotonic()
    threading.Timer(0.3, ours[0].reply.set_exception, [ValueError("size mismatch")]).start()
    for bucket in (WEIGHTS[:1], WEIGHTS[1:], []):
        [error] = send(bucket, ours)
        assert isinstance(error, ValueError)
    theirs[0].close()  # else our end waits for it
    assert time.monotonic() - began < 5


def test_a_partner_that_has_all_weights_before_they_were_sent_has_none() -> None:
    ours, _ = pairs(1, seconds=30.0)
    ours[0].reply.set_result(None)
    [error] = send([("w", torch.ones(3))], ours)
    assert str(error) == "it says that it has all weights before they were sent"


def test_who_comes_to_a_meeting_that_the_other_stays_away_from_goes_in_time() -> None:
    """Also where the other had been reached before: that it listens is not enough."""
    ours = Pair(rank=0, host="127.0.0.1", port=0, device="cpu", join_seconds=1.0, seconds=60.0)
    theirs = Pair(rank=1, host="127.0.0.1", port=ours.port, device="cpu", join_seconds=1.0, seconds=60.0)
    began = time.monotonic()
    for pair in (theirs, ours):
        with pytest.raises(RuntimeError):
            pair.join()
    assert time.monotonic() - began < 6
    with pytest.raises(RuntimeError, match="the two have parted"):
        ours.hand_over(torch.ones(1))


def test_who_waits_for_what_nobody_sends_parts_in_time() -> None:
    """Its own clock ends the wait, not the process group's: NCCL's does not block."""
    ours, theirs = pairs(1, seconds=0.5)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="nothing was handed over within 1 seconds"):
        list(received(theirs[0]))
    assert 1 <= time.monotonic() - began < 2.5
    with pytest.raises(RuntimeError, match="the two have parted"):
        theirs[0].hand_over(torch.ones(1))
    ours[0].pair.close()


def test_a_pair_that_hands_over_something_else_has_not_met() -> None:
    """The first tensor is part of the meeting: what does not work does not show at the weights only."""
    ours = Pair(rank=0, host="127.0.0.1", port=0, device="cpu", join_seconds=5.0, seconds=60.0)
    theirs = Pair(rank=1, host="127.0.0.1", port=ours.port, device="cpu", join_seconds=5.0, seconds=60.0)
    hand_over, arrived = theirs._hand_over, []

    def garbled(value: Tensor, seconds: float) -> Tensor:
        arrived.append(seconds)
        return hand_over(value, seconds) + 1

    theirs._hand_over = garbled  # type: ignore[method-assign]
    meeting = threading.Thread(target=ours.join)
    meeting.start()
    with pytest.raises(RuntimeError, match="what came is not what was sent"):
        theirs.join()
    meeting.join()
    assert arrived == [5.0]


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    write_file(WEIGHTS, tmp_path / "w.safetensors")
    found = dict(read_file(tmp_path / "w.safetensors"))
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in WEIGHTS)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_nobody_at_the_other_end_is_an_error_in_time() -> None:
    with pytest.raises(RuntimeError):
        Pair(rank=1, host="127.0.0.1", port=1, device="cpu", join_seconds=1.0, seconds=1.0)
