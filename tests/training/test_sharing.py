"""How groups are placed on ranks, and what ranks are told of each other's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl.ranks import ALONE
from mmrl.training.sharing import UNEVEN, balanced, exchange, place, without_pixels
from mmrl.types import Dropped, ScoredGroup, VisionInputs
from tests import toy


def loads(tokens: list[int], owners: list[int], ranks: int) -> list[int]:
    return [sum(size for size, owner in zip(tokens, owners, strict=True) if owner == rank) for rank in range(ranks)]


def test_groups_stay_where_that_is_even() -> None:
    assert balanced([100, 100, 100, 102], [0, 0, 1, 1], 2) == [0, 0, 1, 1]


def test_the_fullest_rank_gives_what_helps_most() -> None:
    """500 + 300 + 200 against nothing: 500 | 300 + 200 is even; two groups move, not the longest."""
    owners = balanced([500, 300, 200], [0, 0, 0], 2)
    assert sorted(loads([500, 300, 200], owners, 2)) == [500, 500]


def test_one_long_group_cannot_be_shared() -> None:
    assert loads([1000, 100, 100], balanced([1000, 100, 100], [0, 0, 1], 2), 2) == [1000, 200]


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 3)), min_size=1, max_size=24))
def test_no_rank_gets_more_than_it_need(groups: list[tuple[int, int]]) -> None:
    """At worst a group more than the even share, and never more than where groups began."""
    tokens, held = [size for size, _ in groups], [rank for _, rank in groups]
    after = loads(tokens, balanced(tokens, held, 4), 4)
    assert sum(after) == sum(tokens)
    assert max(after) <= max(loads(tokens, held, 4))
    assert max(after) <= max(UNEVEN * max(tokens), sum(tokens) / 4 + max(tokens), 1)


def pictured(id_: str) -> ScoredGroup:
    group = toy.scored(toy.random_group(toy.text_prompt(id_), size=2, seed=0), [1.0, 0.0])
    vision = VisionInputs(
        patches=torch.ones(16, 12), grids=((1, 4, 4),), kinds=("image",), seconds_per_grid=(0.0,), digests=(id_,)
    )
    return replace(group, group=replace(group.group, prompt=replace(group.group.prompt, vision=vision)))


def test_others_are_told_everything_but_pixels() -> None:
    group = pictured("a")
    told = without_pixels(replace(group, twins={"shuffled": pictured("a")}))
    for one in (told, told.twins["shuffled"]):
        assert one.group.prompt.vision is not None
        assert one.group.prompt.vision.patches.untyped_storage().nbytes() == 0
        assert one.group.prompt.vision.grids == ((1, 4, 4),)
        assert one.totals == group.totals
    assert group.group.prompt.vision is not None
    assert group.group.prompt.vision.patches.shape == (16, 12)


def test_a_single_process_keeps_what_it_has() -> None:
    groups = [pictured("b"), pictured("a")]
    drop = Dropped(sample_id="c", stage="media", reason="gone")
    found = exchange(ALONE, ["a", "b", "c"], groups, [[drop], []], {"reward/x_failed": 1.0}, ["a server is left out"])
    assert found.scored == groups
    assert found.dropped == [drop]
    assert found.metrics == {"reward/x_failed": 1.0}
    assert found.notices == ["a server is left out"]
    placed, own = place(ALONE, groups, found.holders, minibatches=2)
    assert placed == groups
    assert own == [True, True]


def test_nothing_to_place_is_no_mistake() -> None:
    """Filters may refuse every group of a step."""
    for ranks in (ALONE, replace(ALONE, count=2)):
        assert place(ranks, [], {}, minibatches=2) == ([], [])


@pytest.mark.parametrize("count", [1, 3])
def test_shares_of_things_are_disjoint_and_whole(count: int) -> None:
    things = list(range(7))
    shares = [replace(ALONE, rank=rank, count=count).share(things) for rank in range(count)]
    assert sorted(thing for share in shares for thing in share) == things
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
