"""Splits: exact where they can be, stratified, reproducible, and never the same media on two sides."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.data.split import assign_splits, connected
from mmrl.errors import DataError


def deal(count, shares, *, seed=0, strata=None, units=None):
    keys = [f"row-{i}" for i in range(count)]
    return assign_splits(keys, strata or [""] * count, units or list(range(count)), shares, seed=seed)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=2, max_size=4), strata=st.integers(1, 6), seed=st.integers(0, 9))
def test_sizes_are_exact_and_every_stratum_is_spread(sizes, strata, seed):
    shares = {f"s{i}": size for i, size in enumerate(sizes)}
    of = [str(i % strata) for i in range(sum(sizes))]
    splits = deal(sum(sizes), shares, seed=seed, strata=of)
    assert Counter(splits) == Counter(shares)
    for stratum in set(of):
        rows = of.count(stratum)
        for split, size in shares.items():
            held = sum(o == stratum and s == split for o, s in zip(of, splits, strict=True))
            assert abs(held - rows * size / sum(sizes)) < len(sizes)


def test_fractions_and_counts_of_the_same_proportion_mean_the_same():
    assert deal(50, {"train": 0.8, "test": 0.2}) == deal(50, {"train": 40, "test": 10})


def test_the_seed_decides_who_goes_where():
    assert deal(50, {"a": 1, "b": 1}, seed=1) == deal(50, {"a": 1, "b": 1}, seed=1)
    assert deal(50, {"a": 1, "b": 1}, seed=1) != deal(50, {"a": 1, "b": 1}, seed=2)


def test_the_order_of_the_rows_does_not_matter():
    shares = {"a": 2, "b": 1}
    forward = assign_splits(["x", "y", "z"], ["", "", ""], [0, 1, 2], shares, seed=0)
    backward = assign_splits(["z", "y", "x"], ["", "", ""], [0, 1, 2], shares, seed=0)
    assert forward == backward[::-1]


def test_rows_of_a_unit_stay_together():
    units = [i // 3 for i in range(60)]
    splits = deal(60, {"train": 4, "test": 1}, units=units)
    assert all(len({s for s, u in zip(splits, units, strict=True) if u == unit}) == 1 for unit in set(units))
    assert Counter(splits) == {"train": 48, "test": 12}


def test_a_split_that_would_be_empty_is_refused():
    with pytest.raises(DataError, match="no row is left for split test"):
        deal(3, {"train": 9, "test": 1}, units=[0, 0, 0])


def test_rows_are_connected_through_other_rows():
    labels = [["a"], ["b"], ["c", "a"], ["d"], ["b", "c"], []]
    units = connected(labels)
    assert units[0] == units[1] == units[2] == units[4]
    assert len({units[0], units[3], units[5]}) == 3
