"""Leaving out samples that ask the same of the same media.

Equal media, equal question: one sample stays if the answers agree, and none if they contradict each other, because
either may be wrong. Media that merely look alike may well have another right answer (one coin more): such samples are
duplicates only if their answers agree, and otherwise all stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from mmrl.types import Answer, Dropped, Media, Sample


def dedup(
    samples: Sequence[Sample], same: Mapping[str, Hashable], alike: Mapping[str, Hashable] | None = None
) -> tuple[list[Sample], list[Dropped]]:
    """(samples that stay, in order; those left out, with the one that stays in their place).

    same: media path → a name that equal files share. alike: the same for files that look alike; None: not asked for.
    """
    kept, dropped = _exact(samples, same)
    if alike is not None:
        kept, more = _near(kept, alike)
        dropped += more
    order = {sample.id: place for place, sample in enumerate(samples)}
    return kept, sorted(dropped, key=lambda left_out: order[left_out.sample_id])


def _exact(samples: Sequence[Sample], same: Mapping[str, Hashable]) -> tuple[list[Sample], list[Dropped]]:
    asked: dict[Hashable, list[Sample]] = defaultdict(list)
    for sample in samples:
        asked[_question(sample, same)].append(sample)
    leaving: dict[str, Dropped] = {}
    for equal in asked.values():
        first = equal[0]
        if len({_answer(sample.answer) for sample in equal}) > 1:
            ids = ", ".join(sample.id for sample in equal)
            for sample in equal:
                leaving[sample.id] = _dropped(sample, "contradictory answers", f"same question and media: {ids}")
        else:
            for sample in equal[1:]:
                leaving[sample.id] = _dropped(sample, "duplicate", f"equal to {first.id}")
    return [sample for sample in samples if sample.id not in leaving], list(leaving.values())


def _near(samples: Sequence[Sample], alike: Mapping[str, Hashable]) -> tuple[list[Sample], list[Dropped]]:
    first: dict[Hashable, Sample] = {}
    kept, dropped = [], []
    for sample in samples:
        known = first.setdefault((_question(sample, alike), _answer(sample.answer)), sample)
        if known is sample:
            kept.append(sample)
        else:
            dropped.append(_dropped(sample, "near duplicate", f"its media look like those of {known.id}"))
    return kept, dropped


def _question(sample: Sample, names: Mapping[str, Hashable]) -> Hashable:
    """Equal for samples that ask the same of the same media."""
    media = tuple(_shown(item, names) for item in sample.media)
    return (" ".join(sample.question.split()), sample.choices, media)


def _shown(item: Media, names: Mapping[str, Hashable]) -> Hashable:
    paths = item.paths if item.path is None else (item.path,)
    return (item.type, tuple(names[path] for path in paths), item.start, item.end)


def _answer(answer: Answer) -> Hashable:
    value = frozenset(answer.value) if answer.type == "choices" else answer.value
    return (answer.type, value, answer.unit, answer.space)


def _dropped(sample: Sample, reason: str, detail: str) -> Dropped:
    return Dropped(sample_id=sample.id, stage="filter", reason=reason, detail=detail)
