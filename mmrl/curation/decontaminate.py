"""Leaving out training samples that give away the answers of an evaluation set.

A sample goes if it shows any picture or clip of the evaluation set, whatever it asks about it: what a policy learns of
a picture it can use for every question. A sample without media goes if it asks a question of the evaluation set.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from mmrl.curation.stats import media_paths
from mmrl.types import Dropped, Sample


def decontaminate(
    samples: Sequence[Sample], held_out: Sequence[Sample], names: Mapping[str, Hashable]
) -> tuple[list[Sample], list[Dropped]]:
    """(samples that stay, in order; those left out, with the held-out sample they meet).

    names: media path → a name that files which count as the same share, for both sets.
    """
    shown: dict[Hashable, str] = {}
    asked: dict[Hashable, str] = {}
    for sample in held_out:
        for path in media_paths(sample):
            if path in names:  # a broken file has none, and gives nothing away
                shown.setdefault(names[path], sample.id)
        if not sample.media:
            asked.setdefault(_question(sample), sample.id)
    kept: list[Sample] = []
    dropped: list[Dropped] = []
    for sample in samples:
        met = next((shown[names[path]] for path in media_paths(sample) if names.get(path) in shown), None)
        reason = "media of the evaluation set"
        if met is None and not sample.media:
            met, reason = asked.get(_question(sample)), "question of the evaluation set"
        if met is None:
            kept.append(sample)
        else:
            detail = f"shared with {met} of the evaluation set"
            dropped.append(Dropped(sample_id=sample.id, stage="filter", reason=reason, detail=detail))
    return kept, dropped


def _question(sample: Sample) -> Hashable:
    return " ".join(sample.question.split()).casefold()
