"""What a manifest is made of: counts and distributions to look at before a run, in one pass and bounded memory."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrl.curation.media_index import Examination, media_index, wanted_of
from mmrl.curation.output import ranked
from mmrl.curation.scan import Extracted, number_of, scan
from mmrl.curation.shards import Shard, read_rows
from mmrl.curation.validate import facts_of
from mmrl.curation.visual_tokens import FAMILIES, clip_families, clip_tokens, picture_tokens, sampled_frames
from mmrl.curation.workers import available_cores, run_ordered
from mmrl.progress import Progress, SilentProgress
from mmrl.types import LETTERS, MediaType, Sample

ANSWERS_KEPT = 2000  # different answers counted by name in a task; further ones count as "other answers"
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SECONDS_STEP, TOKEN_STEP = 0.1, 1  # resolution of the counts
OTHER = "other answers"


@dataclass(slots=True)
class Tally:
    """Counters that add up over shards."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)  # table → name → rows
    numbers: dict[str, Counter[float]] = field(default_factory=dict)  # quantity → value → how often
    answers: dict[str, Counter[str]] = field(default_factory=dict)  # task → answer → rows

    def count(self, table: str, name: str) -> None:
        self.counts.setdefault(table, Counter())[name] += 1

    def number(self, quantity: str, value: float) -> None:
        self.numbers.setdefault(quantity, Counter())[value] += 1

    def add(self, other: Tally) -> None:
        for ours, theirs in ((self.counts, other.counts), (self.answers, other.answers)):
            for name, counter in theirs.items():
                ours.setdefault(name, Counter()).update(counter)
        for name, values in other.numbers.items():
            self.numbers.setdefault(name, Counter()).update(values)
        for counter in self.answers.values():
            _bounded(counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts over the sound rows of a manifest; tables are ordered by count, then name, but for letters and options."""

    path: Path
    rows: int  # that are not blank
    samples: int  # sound ones
    tasks: Mapping[str, int]
    answer_types: Mapping[str, int]
    splits: Mapping[str, int]  # of metadata["split"]; samples without one are not counted
    media: Mapping[str, int]  # what a sample shows, such as "1 image" or "text only" → samples
    files: int  # different media files
    letters: Mapping[str, int]  # right option → samples of answer type choice; options never right count 0
    options: Mapping[str, int]  # number of options → samples that have options
    answers: Mapping[str, Mapping[str, int]]  # task → answer → samples, most frequent first
    quantities: Mapping[str, Mapping[str, float]]  # quantity → count, mean and quantiles
    histograms: Mapping[str, Counter[float]]  # quantity → value → how often
    broken: Mapping[str, int]  # reason → media files that cannot be used

    def to_json(self) -> dict[str, Any]:
        """Everything but the histograms, as JSON values."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name in self.__dataclass_fields__
            if name != "histograms"
            for value in [getattr(self, name)]
        }


def manifest_stats(
    path: str | os.PathLike[str],
    *,
    examination: Examination | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Stats:
    """Opens media only with an `examination` (depth "header" is enough): their sizes and visual tokens by family."""
    bar, cores = progress or SilentProgress(), workers or available_cores()
    tally = Tally()
    if examination is None:
        files: set[int] = set()
        take = _adder(tally, lambda wanted: files.update(number_of(path) for path, _ in wanted))
        found = scan([path], _Count(), workers=cores, progress=bar, on_extra=take)
        count, broken = len(files), Counter[str]()
    else:
        with media_index(examination) as index:
            found = scan([path], _Count(), workers=cores, progress=bar, on_extra=_adder(tally, index.add))
            index.complete(bar)
            count, broken = index.count(), Counter(fact.reason for fact in index.facts() if fact.reason)
            sizes = _Sizes(index=str(index.path))
            with bar.task("visual tokens, shards", len(found.shards)) as task:
                for part in run_ordered(sizes, found.shards, workers=min(cores, len(found.shards))):
                    tally.add(part)
                    task.advance()
    counts = tally.counts
    right = counts.get("letter", Counter())
    offered = set(right) | set(LETTERS[: int(max(tally.numbers.get("options of choices", {0: 0})))])
    return Stats(
        path=Path(path),
        rows=found.rows,
        samples=int(found.sound.sum()),
        tasks=ranked(counts.get("task", {})),
        answer_types=ranked(counts.get("type", {})),
        splits=ranked(counts.get("split", {})),
        media=ranked(counts.get("media", {})),
        files=count,
        letters={letter: right[letter] for letter in sorted(offered)},
        options={str(int(n)): c for n, c in sorted(tally.numbers.get("options", Counter()).items())},
        answers={task: ranked(answers) for task, answers in sorted(tally.answers.items())},
        quantities={
            name: summary(values) for name, values in sorted(tally.numbers.items()) if name != "options of choices"
        },
        histograms={name: values for name, values in sorted(tally.numbers.items()) if name != "options of choices"},
        broken=ranked(broken),
    )


def summary(values: Mapping[float, int]) -> dict[str, float]:
    """Count, mean and quantiles (the least value that at least such a share does not exceed) of counted values."""
    whole = sum(values.values())
    ordered = sorted(values.items())
    result: dict[str, float] = {"count": whole, "mean": sum(v * n for v, n in ordered) / whole}
    for quantile in QUANTILES:
        seen = 0
        for value, n in ordered:
            seen += n
            if seen >= quantile * whole:
                result[f"{quantile:.0%}"] = value
                break
    return result


def shown_media(sample: Sample) -> str:
    """ "1 image", "2 images, 1 video", "text only"."""
    counts = Counter(item.type for item in sample.media)
    words: dict[MediaType, tuple[str, str]] = {
        "image": ("image", "images"),
        "video": ("video", "videos"),
        "frames": ("list of frames", "lists of frames"),
    }
    parts = [f"{counts[type_]} {words[type_][counts[type_] > 1]}" for type_ in words if counts[type_]]
    return ", ".join(parts) or "text only"


Wanted = tuple[str, str]


def _adder(tally: Tally, add: Callable[[Sequence[Wanted]], Any]) -> Callable[[Any], None]:
    def take(extra: tuple[Tally, Sequence[Wanted]]) -> None:
        tally.add(extra[0])
        add(extra[1])

    return take


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    """A `Tally` of each shard, as `extra`, with the media files it names."""

    def __call__(self, samples: Sequence[Sample]) -> Extracted:
        tally = Tally()
        for sample in samples:
            _count(tally, sample)
        files = {wanted for sample in samples for wanted in wanted_of(sample.media)}
        return Extracted(extra=(tally, sorted(files)))


def _count(tally: Tally, sample: Sample) -> None:
    answer = sample.answer
    tally.count("task", sample.task)
    tally.count("type", answer.type)
    tally.count("media", shown_media(sample))
    if "split" in sample.metadata:
        tally.count("split", str(sample.metadata["split"]))
    if answer.type == "choice":
        tally.count("letter", answer.value)
        tally.number("options of choices", len(sample.choices))
    if sample.choices:
        tally.number("options", len(sample.choices))
        for choice in sample.choices:
            tally.number("characters of an option", len(choice))
    tally.number("words of the question", len(sample.question.split()))
    tally.number("characters of the question", len(sample.question))
    tally.number("media items", len(sample.media))
    told = _told(sample)
    if told is not None:
        answers = tally.answers.setdefault(sample.task, Counter())
        answers[told if told in answers or len(answers) < ANSWERS_KEPT else OTHER] += 1
    if answer.type in ("text", "math"):
        tally.number("characters of the answer", len(answer.value))


def _told(sample: Sample) -> str | None:
    """The answer as a name whose balance matters; None for coordinates and times."""
    answer = sample.answer
    if answer.type == "choice" and sample.choices:
        return sample.option(answer.value)
    if answer.type in ("choice", "text", "math"):
        return str(answer.value)
    if answer.type == "number":
        return f"{answer.value:g}"
    return ", ".join(answer.value) if answer.type == "choices" else None


def _bounded(counter: Counter[str]) -> None:
    if len(counter) > 2 * ANSWERS_KEPT:
        other = counter.pop(OTHER, 0)
        kept = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:ANSWERS_KEPT]
        other += sum(counter.values()) - sum(n for _, n in kept)
        counter.clear()
        counter.update(dict(kept))
        counter[OTHER] = other


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Sizes of the media of a shard, and visual tokens of its samples."""

    index: str

    def __call__(self, shard: Shard) -> Tally:
        tally = Tally()
        with closing(sqlite3.connect(f"file:{self.index}?mode=ro", uri=True)) as database:
            for row in read_rows(shard):
                if row.sample is not None and row.sample.media:
                    facts = facts_of(database, row.sample)
                    if not any(fact.reason for fact in facts.values()):
                        _measure(tally, row.sample, facts)
        return tally


def _measure(tally: Tally, sample: Sample, facts: Mapping[str, Any]) -> None:
    tokens = Counter[str]()
    for item in sample.media:
        if item.path is not None and item.type == "video":
            fact = facts[item.path]
            start, end = item.start or 0.0, min(item.end or fact.seconds, fact.seconds)
            rate = fact.frames / fact.seconds if fact.seconds else 1.0
            shown = sampled_frames(max(end - start, 0.0), rate, item.fps, item.max_frames)
            tally.number("seconds of a clip", round(fact.seconds / SECONDS_STEP) * SECONDS_STEP)
            tally.number("frames shown of a clip", shown)
            sides = (fact.width, fact.height)
            for name, rule in clip_families().items():
                tokens[name] += clip_tokens(*sides, shown, rule)
        else:
            first = facts[item.path if item.path is not None else item.paths[0]]
            sides = (first.width, first.height)
            if item.type == "frames":
                for name, rule in clip_families().items():
                    tokens[name] += clip_tokens(*sides, max(2, len(item.paths)), rule)
            else:
                for name, rule in FAMILIES.items():
                    tokens[name] += picture_tokens(*sides, rule)
        tally.number("width, pixels", sides[0])
        tally.number("height, pixels", sides[1])
    for name, count in tokens.items():
        tally.number(f"visual tokens, {name}", count)


def stats_json(stats: Stats) -> bytes:
    """The figures as a file."""
    return (json.dumps(stats.to_json(), indent=1, ensure_ascii=False) + "\n").encode()


def shares(counts: Mapping[str, int]) -> Iterable[tuple[str, int, str]]:
    """(name, count, share) of a table."""
    whole = max(sum(counts.values()), 1)
    return [(name, count, f"{count / whole:.1%}") for name, count in counts.items()]
