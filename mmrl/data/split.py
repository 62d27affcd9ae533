"""Assigning rows to splits: stratified, reproducible, and never the same media on two sides.

Which rows fall together is decided by the seed and by what a row *is* (its key), not by its place in the list: adding
rows leaves the order among the others as it was.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from mmrl.errors import ConfigError, DataError


def assign_splits(
    keys: Sequence[str],
    strata: Sequence[str],
    units: Sequence[int],
    shares: Mapping[str, float],
    *,
    seed: int,
) -> list[str]:
    """The split of each row.

    keys: unique name per row. strata: rows of a stratum spread over the splits in proportion. units: rows with equal
    numbers stay together (see `connected`). shares: split → relative size; {train: 8, test: 2} and {train: 0.8, test:
    0.2} mean the same.

    Units are dealt out stratum by stratum, each to the split that is furthest behind its share of all rows dealt so
    far. No split is ever more than one unit ahead, so where all units are single rows and the shares come out whole,
    the sizes are exact.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row, unit in enumerate(units):
        members[unit].append(row)
    dealer = Dealer(shares)
    assigned = [""] * len(keys)

    def turn(rows: list[int]) -> tuple[str, int, str]:
        return strata[rows[0]], -len(rows), shuffle_key(keys[rows[0]], seed)

    for rows in sorted(members.values(), key=turn):
        target = dealer.give(len(rows))
        for row in rows:
            assigned[row] = target
    dealer.refuse_empty(units=len(members))
    return assigned


class Dealer:
    """Deals units of rows to splits, each to the split that is furthest behind its share of all rows dealt so far."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = dict(shares)
        self._whole = sum(shares.values())
        self._given = dict.fromkeys(shares, 0)
        self._dealt = 0

    def give(self, rows: int) -> str:
        """The split of the next unit, which has so many rows."""
        self._dealt += rows
        target = max(self._shares, key=self._behind)
        self._given[target] += rows
        return target

    def refuse_empty(self, *, units: int) -> None:
        """A DataError where a split got nothing."""
        empty = [split for split, count in self._given.items() if count == 0]
        if empty:
            raise DataError(
                f"no row is left for split {', '.join(empty)}: {self._dealt} rows in {units} units that must stay "
                f"together cannot be divided as {self._shares}. Give it a larger share, or remove it"
            )

    def _behind(self, split: str) -> float:
        return self._shares[split] / self._whole * self._dealt - self._given[split]


def parse_shares(text: str) -> dict[str, float]:
    """`train=0.8,test=0.2` → {"train": 0.8, "test": 0.2}."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = (piece.strip() for piece in part.partition("="))
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or not (0 < value < math.inf):
            raise ConfigError(f"{part.strip()!r} is no share; write name=number, above 0: train=0.8,test=0.2")
        if name in shares or name == "dropped":  # dropped.jsonl lists what was left out
            why = "reserved" if name == "dropped" else "given twice"
            raise ConfigError(f"the split name {name!r} is {why}; choose another")
        shares[name] = value
    return shares


def shuffle_key(key: str, seed: int) -> str:
    """Sorting by this shuffles, the same way on every machine and Python version."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest()


def connected(labels: Sequence[Iterable[Hashable]]) -> list[int]:
    """For each row the number of its unit: rows that share a label, directly or through other rows, have one unit."""
    parent = list(range(len(labels)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[Hashable, int] = {}
    for row, names in enumerate(labels):
        for name in names:
            a, b = root(first.setdefault(name, row)), root(row)
            parent[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(labels))]
