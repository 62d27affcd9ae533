"""Keeping the samples for which an expression is true (`expression.py`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mmrl.curation.expression import Expression, Unfit, parse_expression
from mmrl.curation.report import Report
from mmrl.curation.scan import Extracted, Scan, scan
from mmrl.curation.shards import read_rows
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.curation.vocabulary import environment
from mmrl.curation.workers import available_cores
from mmrl.errors import ConfigError, nearest
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Sample

TRUE, FALSE, FIRST_REASON = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The expression's value of each sample: TRUE, FALSE, or FIRST_REASON + why it has none."""

    text: str

    def __call__(self, samples: Sequence[Sample]) -> Extracted:
        expression = parse_expression(self.text)
        values = np.array([judge(expression, sample) for sample in samples], dtype=np.int16)
        return Extracted(columns={"value": values})


def judge(expression: Expression, sample: Sample) -> int:
    try:
        return TRUE if expression.evaluate(environment(sample)) else FALSE
    except Unfit as unfit:
        return FIRST_REASON + unfit.code


def filter_manifest(
    path: str | os.PathLike[str],
    expression: str,
    out: Path,
    *,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes the samples of which `expression` is true; a row that it cannot judge is left out with the reason.

    workers: processes; default: one a core.
    """
    bar = progress or SilentProgress()
    cores = workers or available_cores()
    checked = parse_expression(expression)
    found = scan([path], Judge(text=expression), workers=cores, progress=bar)
    output, reason, names = verdict_of(found, ("expression is false", *checked.reasons))
    value = found.column("value")
    leaving = found.sound & (value != TRUE)
    output[leaving] = -1
    reason[leaving] = value[leaving] - FALSE + len(names) - len(checked.reasons) - 1
    _explain_unknown_keys(found, value, checked)
    verdict = Verdict(output=output, reason=reason, reasons=names)
    return transfer(found, verdict, [out], verb="filter", dry_run=dry_run, workers=cores, progress=bar)


def _explain_unknown_keys(found: Scan, value: np.ndarray[tuple[int], np.dtype[np.int16]], checked: Expression) -> None:
    """Where no row at all has a field, it is probably misspelt."""
    judged = value[found.sound]
    if len(judged) == 0 or not (judged >= FIRST_REASON).all() or len(set(judged.tolist())) > 1:
        return
    why = checked.reasons[int(judged[0]) - FIRST_REASON]
    if not why.startswith("no metadata"):
        return
    keys: set[str] = set()
    for row in islice(read_rows(found.shards[0]), 200):
        if row.sample is not None:
            keys |= set(dotted_keys("metadata", row.sample.metadata))
    field = why.removeprefix("no ")
    guess = nearest(field, sorted(keys))
    hint = f" Did you mean {guess}?" if guess else ""
    raise ConfigError(
        f"filter: no row of {found.files[0]} has {field}.{hint} "
        f"Its rows have: {', '.join(sorted(keys)) or 'no metadata'}."
    )


def dotted_keys(prefix: str, value: object) -> list[str]:
    """metadata.a, metadata.b.c of a nested object."""
    if not isinstance(value, dict):
        return [prefix]
    return [name for key, inner in value.items() for name in dotted_keys(f"{prefix}.{key}", inner)]
