"""Dividing a manifest so that no picture or clip, and no group, is on two sides.

Samples that share a medium, directly or through others, go together; so do those with an equal value of a metadata key
(a scene, a film, a writer). Each split gets its share of the tasks, of the answer types and of the right letters. Where
a sample goes is decided by the seed and by what it is (its id), not by its place in the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.keys import Keys, row_of_file
from mmrl.curation.looks import joined
from mmrl.curation.media_names import MediaMatch, NamedRows, named_rows
from mmrl.curation.report import Report
from mmrl.curation.scan import Scan, mixed
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.data.split import Dealer
from mmrl.errors import DataError
from mmrl.progress import Progress, SilentProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSplit:
    """Writes the split into each row's metadata."""

    names: tuple[str, ...]

    def __call__(self, fields: dict[str, Any], output: int, value: Any) -> dict[str, Any]:
        return {**fields, "metadata": {**(fields.get("metadata") or {}), "split": self.names[output]}}


def split_manifest(
    path: str | os.PathLike[str],
    out: Path,
    shares: Mapping[str, float],
    *,
    group: str = "",
    seed: int = 0,
    match: MediaMatch | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Writes `out/NAME.jsonl` for every name of `shares` (relative sizes), `metadata.split` set.

    group: a metadata key; a sample without it is left out, because what it must stay with is unknown.
    """
    bar, how = progress or SilentProgress(), match or MediaMatch()
    named = named_rows([Path(path)], Keys(group=group, strata=True), how, bar)
    scan = named.scan
    output, reason, names = verdict_of(scan, [f"no metadata {group}", *named.reasons])
    broken = scan.sound & named.broken
    output[broken], reason[broken] = -1, 3 + named.reason[broken]
    if group:
        alone = (output >= 0) & ~scan.column("grouped").astype(bool)
        output[alone], reason[alone] = -1, 2
    rows = np.flatnonzero(output >= 0)
    dealt = _deal(scan, rows, units_of(named, rows, grouped=bool(group)), shares, seed)
    output[rows] = dealt
    outputs = [out / f"{name}.jsonl" for name in shares]
    return transfer(
        scan,
        Verdict(output=output, reason=reason, reasons=names, details=named.details),
        outputs,
        verb="split",
        edit=SetSplit(names=tuple(shares)),
        listed=out / "dropped.jsonl",
        dry_run=dry_run,
        workers=how.cores,
        progress=bar,
    )


def units_of(named: NamedRows, rows: NDArray[np.int64], *, grouped: bool) -> NDArray[np.int64]:
    """For each of `rows` the number of its unit: rows of one unit share media or groups, directly or through others."""
    scan = named.scan
    among = np.zeros(scan.rows, dtype=bool)
    among[rows] = True
    owner = row_of_file(scan)
    entries = np.flatnonzero(among[owner]) if len(owner) else np.zeros(0, dtype=np.int64)
    holders, labels = owner[entries], mixed(named.widest[entries], 1)
    if grouped:
        holders = np.concatenate([holders, rows])
        labels = np.concatenate([labels, mixed(scan.column("group")[rows], 2)])
    values, label = np.unique(labels, return_inverse=True)
    place = np.searchsorted(rows, holders)
    pairs = np.stack([place, len(rows) + label], axis=1)
    return joined(pairs, len(rows) + len(values))[: len(rows)]


def _deal(
    scan: Scan, rows: NDArray[np.int64], unit: NDArray[np.int64], shares: Mapping[str, float], seed: int
) -> NDArray[np.int16]:
    """The split of each row: units in the order of their stratum, the larger ones first, shuffled by the seed."""
    if len(rows) == 0:
        raise DataError(f"split: no row of {scan.files[0]} can be used, so there is nothing to divide")
    units, first, inverse, size = np.unique(unit, return_index=True, return_inverse=True, return_counts=True)
    shuffled = mixed(scan.ids[rows[first]], seed)
    order = np.lexsort((shuffled, -size, scan.column("stratum")[rows[first]]))
    number = {name: place for place, name in enumerate(shares)}
    dealer = Dealer(shares)
    target = np.zeros(len(units), dtype=np.int16)
    for place, count in zip(order.tolist(), size[order].tolist(), strict=True):
        target[place] = number[dealer.give(count)]
    dealer.refuse_empty(units=len(units))
    return target[inverse]
