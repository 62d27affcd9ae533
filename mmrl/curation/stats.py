"""What a data set is made of: counts to look at before a run."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mmrl.types import MediaType, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleStats:
    """Counts over samples; every mapping is ordered by count, then name, but for letters and options, by name."""

    samples: int
    tasks: Mapping[str, int]
    answer_types: Mapping[str, int]
    splits: Mapping[str, int]  # of metadata["split"]; samples without one are not counted
    media: Mapping[str, int]  # what a sample shows, such as "1 image" or "text only" → samples
    files: int  # different media files
    letters: Mapping[str, int]  # right option → samples of answer type choice; options never right count 0
    options: Mapping[int, int]  # number of options → samples that have options


def sample_stats(samples: Sequence[Sample]) -> SampleStats:
    """All counts in one pass over the samples; opens no file."""
    single = [sample for sample in samples if sample.answer.type == "choice"]
    right = Counter(sample.answer.value for sample in single)
    reach = max((len(sample.choices) for sample in single), default=0)
    offered = set(string.ascii_uppercase[:reach]) | set(right)
    return SampleStats(
        samples=len(samples),
        tasks=_ranked(sample.task for sample in samples),
        answer_types=_ranked(sample.answer.type for sample in samples),
        splits=_ranked(str(sample.metadata["split"]) for sample in samples if "split" in sample.metadata),
        media=_ranked(_shown(sample) for sample in samples),
        files=len({path for sample in samples for path in media_paths(sample)}),
        letters={letter: right[letter] for letter in sorted(offered)},
        options=dict(sorted(Counter(len(sample.choices) for sample in samples if sample.choices).items())),
    )


def media_paths(sample: Sample) -> list[str]:
    """The files of a sample, in order."""
    paths: list[str] = []
    for item in sample.media:
        paths += item.paths if item.path is None else [item.path]
    return paths


def _shown(sample: Sample) -> str:
    counts = Counter(item.type for item in sample.media)
    words: dict[MediaType, tuple[str, str]] = {
        "image": ("image", "images"),
        "video": ("video", "videos"),
        "frames": ("list of frames", "lists of frames"),
    }
    parts = [f"{counts[type_]} {words[type_][counts[type_] > 1]}" for type_ in words if counts[type_]]
    return ", ".join(parts) or "text only"


def _ranked(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0])))
