"""How hard each sample is for a model: the share of its rollouts that are right, written into the manifest.

Measured batch by batch through whatever asks the model (`Ask`; the pipeline builds one from any engine), and kept in a
journal beside the output as it comes in: an interrupted measurement goes on with the samples that are missing. The
rollouts of a sample are seeded by its id alone, so that a resumed measurement gives the same bytes.

    metadata.pass_rate     share of rollouts with an accuracy of at least 0.5; what curricula and `select` read
    metadata.difficulty    rollouts, mean accuracy, its variance, likelihood, truncated, model
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import numpy as np

from mmrl.curation.output import dropped_file, json_line, refuse_existing
from mmrl.curation.report import Report
from mmrl.curation.scan import Nothing, Scan, scan
from mmrl.curation.transfer import Verdict, transfer, verdict_of
from mmrl.errors import RunError
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Dropped, Sample, ScoredGroup

CORRECT_AT = 0.5  # accuracy from which a rollout is right
_SCHEMA = 1  # of the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a model made of one sample."""

    id: str
    difficulty: Mapping[str, Any] | None  # metadata.difficulty, and the pass rate; None: it could not be asked
    reason: str = ""  # why not
    detail: str = ""


Ask = Callable[[Sequence[Sample]], tuple[Sequence[ScoredGroup], Sequence[Dropped]]]


def outcome_of(group: ScoredGroup) -> Outcome:
    """The figures of one sample's rollouts.

    likelihood: mean over the rollouts of the geometric mean probability of their tokens, untempered.
    """
    rollouts = group.group.rollouts
    accuracy = [float(value) for value in group.accuracy]
    figures = {
        "pass_rate": sum(value >= CORRECT_AT for value in accuracy) / len(accuracy),
        "rollouts": len(rollouts),
        "accuracy": round(fmean(accuracy), 6),
        "variance": round(pvariance(accuracy), 6),
        "likelihood": round(fmean(exp(fmean(rollout.policy_logprobs)) for rollout in rollouts), 6),
        "truncated": sum(rollout.truncated for rollout in rollouts) / len(rollouts),
    }
    return Outcome(id=group.group.prompt.sample.id, difficulty=figures)


def measure_difficulty(
    path: str | os.PathLike[str],
    out: Path,
    ask: Ask,
    *,
    settings: Mapping[str, Any],
    batch: int = 16,
    key: str = "difficulty",
    dry_run: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Asks every sound sample, `batch` at a time, and writes the manifest with the figures in its metadata.

    settings: what the figures depend on (model, rollouts, sampling, rewards); a journal of other settings or of another
    manifest is refused. key: where the figures go; `pass_rate` is written with "difficulty" only. With `dry_run`
    nothing is asked.
    """
    bar = progress or SilentProgress()
    refuse_existing([out, dropped_file(out)])
    found = scan([path], Nothing(), workers=workers, progress=bar)
    rows = np.flatnonzero(found.sound).tolist()
    journal = out.with_name(f"{out.stem}.{key}.partial.jsonl")
    head = {"schema": _SCHEMA, "manifest": _digest(Path(path)), "settings": _plain(settings)}
    output, reason, names = verdict_of(found, ())
    if dry_run:
        verdict = Verdict(output=output, reason=reason, reasons=names)
        done = len(_resume(journal, head)) if journal.exists() else 0
        notes = (f"{len(rows) - done} samples would be asked; {done} were asked before.",)
        return transfer(found, verdict, [out], verb=key, dry_run=True, workers=workers, progress=bar, notes=notes)
    outcomes = _ask_all(found, rows, ask, journal, head, batch, bar)
    values: list[Any] = [None] * found.rows
    reasons: list[str] = []
    details: dict[int, str] = {}
    for row, outcome in zip(rows, outcomes, strict=True):
        values[row] = outcome.difficulty
        if outcome.difficulty is None:
            if outcome.reason not in reasons:
                reasons.append(outcome.reason)
            output[row], reason[row], details[row] = -1, 2 + reasons.index(outcome.reason), outcome.detail
    verdict = Verdict(output=output, reason=reason, reasons=(*names, *reasons), details=details)
    rates = [value["pass_rate"] for value in values if value is not None]
    edit = SetDifficulty(key=key, about=_plain(settings))
    report = transfer(
        found,
        verdict,
        [out],
        verb=key,
        edit=edit,
        values=values,
        dry_run=False,
        workers=workers,
        progress=bar,
        figures={"pass_rate": fmean(rates) if rates else 0.0, "histogram": _histogram(rates)},
    )
    journal.unlink()
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDifficulty:
    """Writes the figures into each row's metadata."""

    key: str
    about: Mapping[str, Any]

    def __call__(self, fields: dict[str, Any], output: int, value: Any) -> dict[str, Any]:
        metadata = dict(fields.get("metadata") or {})
        figures = {name: figure for name, figure in value.items() if name != "pass_rate"}
        if self.key == "difficulty":
            metadata["pass_rate"] = value["pass_rate"]
        else:
            figures = {"pass_rate": value["pass_rate"], **figures}
        metadata[self.key] = {**figures, "model": self.about.get("model", "")}
        return {**fields, "metadata": metadata}


def _ask_all(
    found: Scan, rows: Sequence[int], ask: Ask, journal: Path, head: Mapping[str, Any], batch: int, bar: Progress
) -> Iterator[Outcome]:
    """The outcome of every row, in order, from the journal as far as it goes."""
    done = _resume(journal, head) if journal.exists() else []
    journal.parent.mkdir(parents=True, exist_ok=True)
    right = count = 0.0
    with open(journal, "ab") as file:
        if file.tell() == 0:
            file.write(json_line(head))
        with bar.task("asking", len(rows), done=len(done)) as task:
            yield from done
            for first in range(len(done), len(rows), batch):
                samples = [found.sample(row) for row in rows[first : first + batch]]
                outcomes = _outcomes(samples, ask)
                lines = b"".join(json_line(asdict(outcome)) for outcome in outcomes)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
                rates = [o.difficulty["pass_rate"] for o in outcomes if o.difficulty is not None]
                right, count = right + sum(rates), count + len(rates)
                task.advance(len(outcomes), pass_rate=round(right / max(count, 1), 3))
                yield from outcomes


def _outcomes(samples: Sequence[Sample], ask: Ask) -> list[Outcome]:
    groups, dropped = ask(samples)
    made = {outcome.id: outcome for outcome in map(outcome_of, groups)}
    why = {drop.sample_id: drop for drop in dropped}
    outcomes = []
    for sample in samples:
        drop = why.get(sample.id)
        reason, detail = (drop.reason, drop.detail) if drop else ("no rollouts came back", "")
        outcomes.append(made.get(sample.id) or Outcome(id=sample.id, difficulty=None, reason=reason, detail=detail))
    return outcomes


def _resume(journal: Path, head: Mapping[str, Any]) -> list[Outcome]:
    """What was measured already. A line that was cut off is removed from the file."""
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with open(journal, "r+b") as file:
            file.truncate(len(whole))
    lines = whole.splitlines()
    if not lines:
        return []
    try:
        first, *rest = [json.loads(line) for line in lines]
        outcomes = [Outcome(**line) for line in rest]
    except (ValueError, TypeError) as error:
        raise RunError(f"{journal} is damaged ({error}); delete it to measure anew") from None
    if first != dict(head):
        changed = ", ".join(name for name in head if first.get(name) != head[name])
        raise RunError(
            f"{journal} is of a measurement with another {changed or 'version of mmrl'}. Go on with what it was begun "
            f"with, or delete it to measure anew"
        )
    return outcomes


def _digest(path: Path) -> str:
    whole = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    return plain


def _histogram(rates: Sequence[float]) -> dict[str, int]:
    """How many samples are never, sometimes and always answered rightly."""
    return {
        "never right": sum(rate == 0 for rate in rates),
        "sometimes": sum(0 < rate < 1 for rate in rates),
        "always right": sum(rate == 1 for rate in rates),
    }
