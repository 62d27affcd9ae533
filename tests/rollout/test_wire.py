"""Messages: what goes in comes out, and answers are held against what was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mmrl.rollout.asked import Asked
from mmrl.rollout.completions import Written
from mmrl.rollout.engine import Sampling
from mmrl.rollout.wire import Garbled, answer, answered, packed, request, requested, unpacked
from mmrl.types import VisionInputs

SAMPLING = Sampling(group_size=2, max_tokens=3, stop=("x",))
PIXELS = torch.randn(8, 6)
ASKED = [
    Asked(
        name="clip",
        token_ids=(5, 6, 6, 7),
        media_slots=((1, 2), (2, 3)),
        vision=VisionInputs(
            patches=PIXELS,
            grids=((1, 2, 2), (1, 2, 2)),
            kinds=("image", "video"),
            seconds_per_grid=(0.0, 0.7),
            digests=("a", "b"),
        ),
        seeds=(2**62 + 1, 3),
        positions=torch.zeros(3, 4, dtype=torch.int64),
    ),
    Asked(name="text", token_ids=(9,), media_slots=(), vision=None, seeds=(4,)),
]
WRITTEN = [
    [
        Written(token_ids=(1, 2), behavior_logprobs=(-0.5, -0.25), policy_logprobs=(-0.75, -1.0)),
        Written(token_ids=(3,), behavior_logprobs=(0.0,), policy_logprobs=(-2.0,)),
    ],
    [Written(token_ids=(4, 5, 6), behavior_logprobs=(-1.0, -1.0, -1.0), policy_logprobs=(-1.0, -1.0, -1.0))],
]


def read(data: bytes, **changed: Any) -> list[list[Written]]:
    return answered(data, ASKED, SAMPLING, **{"version": 7, "vocabulary": 10, **changed})


def test_a_request_arrives_as_it_was_sent() -> None:
    asked, sampling = requested(request(ASKED, SAMPLING))
    assert sampling == SAMPLING
    for got, sent in zip(asked, ASKED, strict=True):
        assert replace(got, vision=None, positions=None) == replace(sent, vision=None, positions=None)
    got_vision = asked[0].vision
    assert got_vision is not None
    assert torch.equal(got_vision.patches, PIXELS)
    assert (got_vision.grids, got_vision.kinds) == (((1, 2, 2), (1, 2, 2)), ("image", "video"))
    assert (got_vision.seconds_per_grid, got_vision.digests) == ((0.0, 0.7), ("a", "b"))
    assert asked[0].positions is not None
    assert asked[1].positions is None


def test_a_picture_shown_by_two_prompts_travels_once() -> None:
    twice = [ASKED[0], replace(ASKED[0], name="again")]
    tensors = unpacked(request(twice, SAMPLING))[1]
    assert sorted(name for name in tensors if name.startswith("pixels")) == ["pixels.a", "pixels.b"]


def test_an_answer_arrives_as_it_was_sent() -> None:
    assert read(answer(WRITTEN, version=7)) == WRITTEN


def first(change: Callable[[Written], Written]) -> bytes:
    return answer([[change(WRITTEN[0][0]), WRITTEN[0][1]], WRITTEN[1]], version=7)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<html>502 Bad Gateway</html>", "not a message"),
        (b"", "not a message"),
        (packed({}, {}), "is missing"),
        (answer(WRITTEN, version=6), "version 6, asked was 7"),
        (answer(WRITTEN[:1], version=7), "groups of"),
        (first(lambda w: replace(w, token_ids=(1, 10))), "a token the model does not have"),
        (first(lambda w: replace(w, behavior_logprobs=(-0.5, float("nan")))), "log-probabilities that are none"),
        (first(lambda w: replace(w, behavior_logprobs=(-0.5, 0.5))), "log-probabilities that are none"),
        (first(lambda w: replace(w, policy_logprobs=(-0.5,))), "different number"),
        (
            first(lambda w: Written(token_ids=(1,) * 4, behavior_logprobs=(-1.0,) * 4, policy_logprobs=(-1.0,) * 4)),
            "a completion of 1 or 4 tokens",
        ),
    ],
)
def test_garbage_is_told_from_an_answer(data: bytes, what: str) -> None:
    with pytest.raises(Garbled, match=what):
        read(data)
