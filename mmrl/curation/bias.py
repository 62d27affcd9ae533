"""What a manifest gives away without its pictures: answer positions, option lengths, and words of the question.

    position   the letters of right options, against options that are right equally often (χ²)
    length     how often the longest, or the shortest, option is the right one, against the share of chance (binomial)
    named      how often the right option's text stands in the question and no other one's does
    text       what a linear model over the words of question and options gets right, by cross-validation, against the
               best that always the same answer gets

A policy finds such short cuts long before it learns to look. The linear model: `word_model.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

import numpy as np

from mmrl.curation.difficulty import Ask
from mmrl.curation.keys import answer_text
from mmrl.curation.scan import Nothing, mixed, scan
from mmrl.curation.word_model import FOLDS, guess_labels, guess_options, right_option
from mmrl.curation.workers import available_cores
from mmrl.progress import Progress, SilentProgress
from mmrl.types import CORRECT_AT, Sample

SUSPICIOUS = 0.001  # chance of so uneven a count, below which it is a finding
MARGIN = 0.05  # … and by how much it must exceed what is expected
LEAST = 50  # samples of a task, to judge words by
_CLASSES = 200  # most different answers of a task that a model is fitted to


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """One short cut on one task."""

    task: str
    kind: str  # "position", "longest option", "shortest option", "named in the question", "text"
    samples: int
    reached: float  # share that is right by it
    expected: float  # share of chance, or of the best constant answer
    low: float  # 95 % interval of `reached` (Wilson)
    high: float
    p: float  # chance of at least so much, were there no short cut
    found: bool  # unlikely to be chance, and worth more than MARGIN
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """What was found."""

    path: Path
    rows: int
    samples: int  # that were looked at
    shortcuts: tuple[Shortcut, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)  # task → why no model was fitted

    @property
    def found(self) -> tuple[Shortcut, ...]:
        return tuple(shortcut for shortcut in self.shortcuts if shortcut.found)


def manifest_bias(
    path: str | os.PathLike[str],
    *,
    limit: int = 20_000,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Bias:
    """Looks at `limit` samples, drawn by `seed`; opens no media."""
    bar = progress or SilentProgress()
    found = scan([path], Nothing(), workers=workers or available_cores(), progress=bar)
    rows = np.flatnonzero(found.sound)
    rows = np.sort(rows[np.argsort(mixed(found.ids[rows], seed), kind="stable")[:limit]])
    tasks: dict[str, list[Sample]] = {}
    for row in rows.tolist():
        sample = found.sample(row)
        tasks.setdefault(sample.task, []).append(sample)
    shortcuts: list[Shortcut] = []
    skipped: dict[str, str] = {}
    with bar.task("tasks", len(tasks)) as task:
        for name, samples in sorted(tasks.items()):
            shortcuts += [s for s in (_position(name, samples), *_lengths(name, samples), _named(name, samples)) if s]
            guess = text_shortcut(name, samples, seed=seed)
            if isinstance(guess, str):
                skipped[name] = guess
            else:
                shortcuts.append(guess)
            task.advance()
    return Bias(path=Path(path), rows=found.rows, samples=len(rows), shortcuts=tuple(shortcuts), skipped=skipped)


def _choices(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.answer.type == "choice" and sample.choices]


def _position(task: str, samples: Sequence[Sample]) -> Shortcut | None:
    from scipy.stats import chi2  # type: ignore[import-untyped]

    asked = _choices(samples)
    if not asked:
        return None
    right = Counter(right_option(sample) for sample in asked)
    expected = Counter[int]()
    for sample in asked:
        for place in range(len(sample.choices)):
            expected[place] += 1 / len(sample.choices)  # type: ignore[assignment]
    statistic = sum((right[place] - wanted) ** 2 / wanted for place, wanted in expected.items())
    best = max(expected, key=lambda place: (right[place] - expected[place], -place))
    told = ", ".join(f"{chr(65 + place)} {right[place]}" for place in sorted(expected))
    return _shortcut(task, "position", right[best], expected[best] / len(asked), len(asked),
                     p=float(chi2.sf(statistic, len(expected) - 1)), detail=told)  # fmt: skip


def _lengths(task: str, samples: Sequence[Sample]) -> list[Shortcut]:
    shortcuts = []
    for kind, pick in (("longest option", max), ("shortest option", min)):
        hits = count = 0
        chance = 0.0
        for sample in _choices(samples):
            lengths = [len(choice) for choice in sample.choices]
            most = pick(lengths)
            if lengths.count(most) == 1:  # only where one stands out
                count += 1
                hits += lengths[right_option(sample)] == most
                chance += 1 / len(lengths)
        if count:
            shortcuts.append(_shortcut(task, kind, hits, chance / count, count))
    return shortcuts


def _named(task: str, samples: Sequence[Sample]) -> Shortcut | None:
    hits = count = 0
    chance = 0.0
    for sample in _choices(samples):
        words = f" {' '.join(sample.question.casefold().split())} "
        said = [f" {choice.casefold()} " in words for choice in sample.choices]
        if sum(said) == 1:
            count += 1
            hits += said[right_option(sample)]
            chance += 1 / len(said)
    return _shortcut(task, "named in the question", hits, chance / count, count) if count else None


def text_shortcut(task: str, samples: Sequence[Sample], *, seed: int) -> Shortcut | str:
    """How far the words alone get; or why that cannot be said.

    Samples with options: a model scores each option by the words of the question paired with the option's, and the
    best is the guess. Other answers with few different values: one class each.
    """
    asked = _choices(samples)
    if len(asked) >= LEAST:
        hits, baseline = guess_options(asked, seed)
        return _shortcut(task, "text", int(hits.sum()), baseline, len(asked), detail="question and options")
    named = [(sample, _class(sample)) for sample in samples]
    known = [(sample, label) for sample, label in named if label is not None]
    if len(known) < LEAST:
        return f"fewer than {LEAST} samples with an answer of words or numbers"
    counts = Counter(label for _, label in known)
    common = {label for label, count in counts.most_common(_CLASSES) if count >= FOLDS}
    if len(common) < 2:
        return "no two answers that occur often"
    labels = [label if label in common else "" for _, label in known]
    hits = guess_labels([sample for sample, _ in known], labels, seed)
    hits &= np.array([label != "" for label in labels])
    best = counts.most_common(1)[0][1] / len(known)
    return _shortcut(task, "text", int(hits.sum()), best, len(known), detail="question")


def blind_shortcuts(
    samples: Sequence[Sample], ask: Ask, *, batch: int = 16, progress: Progress | None = None
) -> list[Shortcut]:
    """How far a model gets that is shown no media (`ask` leaves them out), by task, against the best constant answer.

    One completion a sample counts; a sample that cannot be asked counts as wrong.
    """
    right: dict[str, list[bool]] = {}
    tasks: dict[str, list[Sample]] = {}
    with (progress or SilentProgress()).task("asking without media", len(samples)) as task:
        for first in range(0, len(samples), batch):
            piece = samples[first : first + batch]
            scored, _ = ask(piece)
            hits = {group.group.prompt.sample.id for group in scored if group.accuracy[0] >= CORRECT_AT}
            for sample in piece:
                right.setdefault(sample.task, []).append(sample.id in hits)
                tasks.setdefault(sample.task, []).append(sample)
            task.advance(len(piece))
    return [
        _shortcut(name, "model without media", sum(right[name]), _constant(its), len(its))
        for name, its in sorted(tasks.items())
    ]


def drawn_samples(path: str | os.PathLike[str], *, limit: int, seed: int, workers: int = 1) -> list[Sample]:
    """`limit` sound samples with media, drawn by the seed, in the order of the manifest."""
    found = scan([path], Nothing(), workers=workers, progress=SilentProgress())
    rows = np.flatnonzero(found.sound)
    order = rows[np.argsort(mixed(found.ids[rows], seed), kind="stable")]
    chosen: dict[int, Sample] = {}
    for row in order.tolist():
        if len(chosen) == limit:
            break
        sample = found.sample(row)
        if sample.media:
            chosen[row] = sample
    return [chosen[row] for row in sorted(chosen)]


def _constant(samples: Sequence[Sample]) -> float:
    """Share that the best constant answer gets right; of options, at least chance."""
    counts = Counter(answer_text(sample.answer) for sample in samples)
    chance = [1 / len(sample.choices) if sample.choices else 0.0 for sample in samples]
    return max(counts.most_common(1)[0][1] / len(samples), float(np.mean(chance)))


def _class(sample: Sample) -> str | None:
    answer = sample.answer
    if answer.type == "number":
        return f"{answer.value:g}"
    return " ".join(str(answer.value).casefold().split()) if answer.type in ("text", "math", "choice") else None


def _shortcut(
    task: str, kind: str, hits: int, expected: float, count: int, *, p: float | None = None, detail: str = ""
) -> Shortcut:
    from scipy.stats import binom

    if p is None:
        p = float(binom.sf(hits - 1, count, expected))
    low, high = wilson(hits, count)
    reached = hits / count
    found = p < SUSPICIOUS and reached - expected > MARGIN
    return Shortcut(task=task, kind=kind, samples=count, reached=reached, expected=float(expected), low=low, high=high,
                    p=p, found=found, detail=detail)  # fmt: skip


def wilson(hits: int, count: int, *, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share = hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
