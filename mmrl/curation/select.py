"""Choosing samples to train on: by how hard they are, by how much can be learnt from them, in equal parts.

A band on the pass rate comes first, then a ranking or a least score, then the balance:

    variance         p (1 − p) of the pass rate p: the variance of a right-or-wrong reward, and so how far a group's
                     advantages can be from zero (the rule of thumb of variance-aware sampling, MMR1, arXiv:2509.21268)
    low-likelihood   the lower the likelihood of the model's own completions, the better: what it is unsure about
    learning-impact  LIMR's score (`lim.py`), from the traces of a run
    field            any number in the metadata, the larger the better

Ties are broken by the seed and the id. The order of the manifest is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.keys import answer_text
from mmrl.curation.report import Report
from mmrl.curation.scan import Extracted, Scan, mixed, number_of, scan
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.curation.workers import available_cores
from mmrl.errors import ConfigError
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Sample

Method = Literal["all", "variance", "low-likelihood", "learning-impact", "field"]
Balance = Literal["none", "task", "answer"]
PASS_RATE, LIKELIHOOD = "pass_rate", "difficulty.likelihood"
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is wanted."""

    band: tuple[float, float] | None = None  # least and most pass rate, both included
    by: Method = "all"
    field: str = ""  # by="field": dotted, below metadata
    at_least: float | None = None  # least score
    count: int | None = None  # how many samples; None: all that are left
    balance: Balance = "none"  # equal numbers of every task, or of every answer (of a task)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.band is not None and not 0 <= self.band[0] <= self.band[1] <= 1:
            raise ConfigError(f"--band is {self.band[0]:g},{self.band[1]:g}; give two shares: 0.2,0.8")
        if (self.by == "field") != bool(self.field):
            raise ConfigError("--field names the score of --by field; give both, or neither")
        if self.by == "all" and self.at_least is not None:
            raise ConfigError("--at-least is of a score; say which with --by")

    @property
    def score_field(self) -> str:
        """Below metadata; empty where the score comes from elsewhere."""
        return {"variance": PASS_RATE, "low-likelihood": LIKELIHOOD, "field": self.field}.get(self.by, "")


def select_samples(
    path: str | os.PathLike[str],
    out: Path,
    choice: Choice,
    *,
    scores: Mapping[str, float] | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes the chosen samples. scores: id → score, for by="learning-impact"; they are written into the metadata."""
    bar, cores = progress or SilentProgress(), workers or available_cores()
    if (choice.by == "learning-impact") != (scores is not None):
        raise ConfigError("learning impact needs the scores of a run (--run), and nothing else does")
    extract = Figures(score=choice.score_field, balance=choice.balance)
    found = scan([path], extract, workers=cores, progress=bar)
    wanted = f"metadata.{choice.score_field}" if choice.score_field else "score of the run"
    names = (f"no metadata.{PASS_RATE}", "outside the band", f"no {wanted}", "score too low", "not among the best",
             f"over the share of its {choice.balance}")  # fmt: skip
    output, reason, reasons = verdict_of(found, names)

    def leave(rows: NDArray[np.bool_], why: int) -> None:
        gone = rows & (output >= 0)
        output[gone], reason[gone] = -1, 2 + why

    rate = found.column("pass_rate")
    if choice.band is not None:
        leave(np.isnan(rate), 0)
        leave(~((rate >= choice.band[0]) & (rate <= choice.band[1])), 1)
    score = _scores(found, choice, scores)
    if choice.by != "all":
        leave(np.isnan(score), 2)
    if choice.at_least is not None:
        leave(~(score >= choice.at_least), 3)
    rows = np.flatnonzero(output >= 0)
    order = rows[np.lexsort((mixed(found.ids[rows], choice.seed), -score[rows]))]  # best first
    if choice.balance == "none":
        late = order[choice.count :] if choice.count is not None else order[:0]
        output[late], reason[late] = -1, 2 + 4
    else:
        over = _over_share(found.column("stratum")[order], choice.count)
        output[order[over]], reason[order[over]] = -1, 2 + 5
    kept = np.flatnonzero(output >= 0)
    notes = () if choice.count is None or len(kept) == choice.count else (f"{choice.count} were asked for.",)
    edit = SetScore() if scores is not None else None
    values = score.tolist() if scores is not None else ()
    return transfer(
        found,
        Verdict(output=output, reason=reason, reasons=reasons),
        [out],
        verb="select",
        edit=edit,
        values=values,
        dry_run=dry_run,
        workers=cores,
        progress=bar,
        notes=notes,
        figures={"strata": len(np.unique(found.column("stratum")[kept])) if choice.balance != "none" else 1},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScore:
    """Writes the score into each row's metadata."""

    def __call__(self, fields: dict[str, Any], output: int, value: Any) -> dict[str, Any]:
        return {**fields, "metadata": {**(fields.get("metadata") or {}), "learning_impact": round(value, 6)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Pass rate, score and stratum of each sample; NaN where there is none."""

    score: str
    balance: Balance

    def __call__(self, samples: Sequence[Sample]) -> Extracted:
        columns: dict[str, NDArray[Any]] = {
            "pass_rate": np.array([number_in(sample.metadata, PASS_RATE) for sample in samples], dtype=np.float64)
        }
        if self.score:
            columns["score"] = np.array(
                [number_in(sample.metadata, self.score) for sample in samples], dtype=np.float64
            )
        if self.balance != "none":
            columns["stratum"] = np.array([number_of(self._stratum(sample)) for sample in samples], dtype=np.uint64)
        return Extracted(columns=columns)

    def _stratum(self, sample: Sample) -> str:
        return sample.task if self.balance == "task" else f"{sample.task}\0{answer_text(sample.answer)}"


def number_in(metadata: Mapping[str, Any], dotted: str) -> float:
    """A number inside the metadata; NaN where there is none."""
    value: Any = metadata
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _scores(found: Scan, choice: Choice, scores: Mapping[str, float] | None) -> Floats:
    """The larger the better."""
    if choice.by == "variance":
        rate = found.column("score")
        return np.asarray(rate * (1 - rate), dtype=np.float64)
    if choice.by == "low-likelihood":
        return np.asarray(-found.column("score"), dtype=np.float64)
    if choice.by == "field":
        return np.asarray(found.column("score"), dtype=np.float64)
    if scores is None:
        return np.zeros(found.rows)
    known = {number_of(id_): value for id_, value in scores.items()}
    return np.array([known.get(number, np.nan) for number in found.ids.tolist()], dtype=np.float64)


def _over_share(stratum: NDArray[np.uint64], count: int | None) -> NDArray[np.int64]:
    """Places, of samples ordered best first, that are over the equal share of their stratum.

    Every stratum gets as many as the smallest has; with `count`, the larger ones fill what smaller ones cannot.
    """
    if len(stratum) == 0:
        return np.zeros(0, dtype=np.int64)
    _, inverse, sizes = np.unique(stratum, return_inverse=True, return_counts=True)
    if count is None:
        shares = np.full(len(sizes), sizes.min())
    else:
        shares = np.zeros(len(sizes), dtype=np.int64)
        left, open_ = min(count, int(sizes.sum())), len(sizes)
        for place in np.argsort(sizes, kind="stable").tolist():  # smallest first: what it lacks goes to the others
            shares[place] = min(int(sizes[place]), left // open_)
            left, open_ = left - int(shares[place]), open_ - 1
        for place in np.argsort(-sizes, kind="stable").tolist():
            if left and shares[place] < sizes[place]:
                shares[place], left = shares[place] + 1, left - 1
    order = np.argsort(inverse, kind="stable")
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(stratum), dtype=np.int64)
    rank[order] = np.arange(len(stratum)) - np.repeat(starts, sizes)
    return np.flatnonzero(rank >= shares[inverse])
