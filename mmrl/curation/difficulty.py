"""How hard each sample is for a model: the share of its rollouts that are right, written into the manifest.

Measured batch by batch through whatever asks the model (`Ask`; the pipeline builds one from any engine), and kept in a
journal beside the output as it comes in: an interrupted measurement goes on with the samples that are missing. The
rollouts of a sample are seeded by its id alone, so that a resumed measurement gives the same bytes.

    metadata.pass_rate     share of rollouts with an accuracy of at least 0.5; what curricula and `select` read
    metadata.difficulty    rollouts, mean accuracy, its variance, likelihood, truncated, model
    metadata.base_completion    where asked: a right completion of the model; what DPH-RL rehearses
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
from mmrl.types import CORRECT_AT, Dropped, Sample, ScoredGroup

_SCHEMA = 1  # of the journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a model made of one sample."""

    id: str
    difficulty: Mapping[str, Any] | None  # metadata.difficulty, and the pass rate; None: it could not be asked
    reason: str = ""  # why not
    detail: str = ""
    completion: str | None = None  # a right one, where they are kept and there was one


Ask = Callable[[Sequence[Sample]], tuple[Sequence[ScoredGroup], Sequence[Dropped]]]


def outcome_of(group: ScoredGroup, *, keep_completion: bool = False) -> Outcome:
    """The figures of one sample's rollouts, and with `keep_completion` one of them (`kept_completion`).

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
    completion = kept_completion(group) if keep_completion else None
    return Outcome(id=group.group.prompt.sample.id, difficulty=figures, completion=completion)


def kept_completion(group: ScoredGroup) -> str | None:
    """The most accurate of the right and finished completions, the first of equals; None: there is none.

    What a model always gets right is rehearsed on one such completion (DPH-RL, arXiv:2509.07430). A wrong one would be
    worth keeping to nobody, and one that was cut would teach the policy to stop there.
    """
    choices = [
        (accuracy, -i)
        for i, (rollout, accuracy) in enumerate(zip(group.group.rollouts, group.accuracy, strict=True))
        if accuracy >= CORRECT_AT and not rollout.truncated and rollout.completion.text
    ]
    return group.group.rollouts[-max(choices)[1]].completion.text if choices else None


def measure_difficulty(
    path: str | os.PathLike[str],
    out: Path,
    ask: Ask,
    *,
    settings: Mapping[str, Any],
    batch: int = 16,
    key: str = "difficulty",
    keep_completion: bool = False,
    dry_run: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Asks every sound sample, `batch` at a time, and writes the manifest with the figures in its metadata.

    settings: what the figures depend on (model, rollouts, sampling, rewards); a journal of other settings or of another
    manifest is refused. key: where the figures go; `pass_rate` is written with "difficulty" only. keep_completion:
    write a right completion into `metadata.base_completion` of the samples that have one, and remove what an earlier
    measurement left there from the others. With `dry_run` nothing is asked.
    """
    settings = {**settings, "keep_completion": True} if keep_completion else settings
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
    outcomes = _ask_all(found, rows, ask, journal, head, batch, bar, keep_completion)
    values: list[Any] = [None] * found.rows
    reasons: list[str] = []
    details: dict[int, str] = {}
    for row, outcome in zip(rows, outcomes, strict=True):
        values[row] = outcome
        if outcome.difficulty is None:
            if outcome.reason not in reasons:
                reasons.append(outcome.reason)
            output[row], reason[row], details[row] = -1, 2 + reasons.index(outcome.reason), outcome.detail
    verdict = Verdict(output=output, reason=reason, reasons=(*names, *reasons), details=details)
    asked = [outcome for outcome in values if outcome is not None and outcome.difficulty is not None]
    rates = [outcome.difficulty["pass_rate"] for outcome in asked]
    edit = SetDifficulty(key=key, about=_plain(settings), keep_completion=keep_completion)
    kept = {"completions_kept": sum(outcome.completion is not None for outcome in asked)} if keep_completion else {}
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
        figures={"pass_rate": fmean(rates) if rates else 0.0, "histogram": _histogram(rates), **kept},
    )
    journal.unlink()
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDifficulty:
    """Writes the figures into each row's metadata."""

    key: str
    about: Mapping[str, Any]
    keep_completion: bool = False

    def __call__(self, fields: dict[str, Any], output: int, value: Any) -> dict[str, Any]:
        outcome: Outcome = value
        assert outcome.difficulty is not None
        metadata = dict(fields.get("metadata") or {})
        rate = outcome.difficulty["pass_rate"]
        figures = {name: figure for name, figure in outcome.difficulty.items() if name != "pass_rate"}
        if self.key == "difficulty":
            metadata["pass_rate"] = rate
        else:
            figures = {"pass_rate": rate, **figures}
        if self.keep_completion:
            metadata.pop("base_completion", None)
            if outcome.completion is not None:
                metadata["base_completion"] = outcome.completion
        metadata[self.key] = {**figures, "model": self.about.get("model", "")}
        return {**fields, "metadata": metadata}


def _ask_all(
    found: Scan,
    rows: Sequence[int],
    ask: Ask,
    journal: Path,
    head: Mapping[str, Any],
    batch: int,
    bar: Progress,
    keep_completion: bool,
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
                outcomes = _outcomes(samples, ask, keep_completion)
                lines = b"".join(json_line(asdict(outcome)) for outcome in outcomes)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
                rates = [o.difficulty["pass_rate"] for o in outcomes if o.difficulty is not None]
                right, count = right + sum(rates), count + len(rates)
                task.advance(len(outcomes), pass_rate=round(right / max(count, 1), 3))
                yield from outcomes


def _outcomes(samples: Sequence[Sample], ask: Ask, keep_completion: bool) -> list[Outcome]:
    groups, dropped = ask(samples)
    found = [outcome_of(group, keep_completion=keep_completion) for group in groups]
    made = {outcome.id: outcome for outcome in found}
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
