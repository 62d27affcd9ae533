"""Every sample once per epoch; where it stood is all it needs to continue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.curriculum.shuffled import Shuffled
from mmrl.errors import DataError
from tests import toy

SAMPLES = [toy.choice_sample(f"s{i}") for i in range(7)]


def ids(sampler: Shuffled, count: int) -> list[str]:
    return [s.id for s in sampler.next(count)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_batch_sizes_do_not_change_the_sequence(sizes: list[int]) -> None:
    pieces = Shuffled(SAMPLES, seed=3)
    assert [i for n in sizes for i in ids(pieces, n)] == ids(Shuffled(SAMPLES, seed=3), sum(sizes))


def test_each_epoch_holds_every_sample_once_in_its_own_order() -> None:
    sampler = Shuffled(SAMPLES, seed=0)
    first, second = ids(sampler, 7), ids(sampler, 7)
    assert sorted(first) == sorted(second) == [s.id for s in SAMPLES]
    assert first != second


def test_seed_decides_the_order() -> None:
    assert ids(Shuffled(SAMPLES, seed=0), 7) != ids(Shuffled(SAMPLES, seed=1), 7)


def test_state_continues_in_the_middle_of_an_epoch() -> None:
    sampler = Shuffled(SAMPLES, seed=0)
    sampler.next(10)
    resumed = Shuffled(SAMPLES, seed=0)
    resumed.load_state(sampler.state())
    assert ids(resumed, 9) == ids(sampler, 9)


def test_an_epoch_is_shuffled_once_however_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled: list[object] = []
    real = np.random.default_rng

    def counted(seed: list[int]) -> np.random.Generator:
        shuffled.append(seed)
        return real(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    sampler = Shuffled(SAMPLES, seed=0)
    for _ in range(14):
        ids(sampler, 1)
    assert shuffled == [[0, 0], [0, 1]]


def test_an_empty_manifest_is_refused() -> None:
    with pytest.raises(DataError, match="no samples"):
        Shuffled([], seed=0)
