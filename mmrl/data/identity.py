"""Which media files of a data set are the same, and which look alike: a name per file that equals share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mmrl.data.fingerprint import fingerprint_files
from mmrl.data.images import BrokenMedia
from mmrl.data.media_paths import media_paths
from mmrl.data.near import near_pairs
from mmrl.data.split import connected
from mmrl.progress import Progress
from mmrl.types import Dropped, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMedia:
    """The media of a data set, told apart."""

    same: Mapping[str, Hashable]  # path → name; equal pixels, or equal bytes of videos, have equal names
    alike: Mapping[str, Hashable] | None  # path → name; pictures that look alike too; None: not asked for
    broken: Mapping[str, BrokenMedia]  # path → why it has no name

    @property
    def widest(self) -> Mapping[str, Hashable]:
        """`alike` where it was asked for, else `same`."""
        return self.same if self.alike is None else self.alike

    def usable(self, samples: Sequence[Sample]) -> tuple[list[Sample], list[Dropped]]:
        """(samples whose media all have names, the others with the reason)."""
        kept: list[Sample] = []
        dropped: list[Dropped] = []
        for sample in samples:
            why = next((self.broken[path] for path in media_paths(sample) if path in self.broken), None)
            if why is None:
                kept.append(sample)
            else:
                dropped.append(Dropped(sample_id=sample.id, stage="media", reason=why.reason, detail=str(why)))
        return kept, dropped


def name_media(samples: Sequence[Sample], *, near: int | None, progress: Progress) -> NamedMedia:
    """Reads every media file once. near: bits of 63 by which the hashes of pictures that look alike may differ."""
    prints, broken = fingerprint_files(samples, progress=progress)
    paths = list(prints)
    alike: dict[str, Hashable] | None = None
    if near is not None:
        labels: list[list[Hashable]] = [[prints[path].digest] for path in paths]
        for pair in near_pairs([prints[path] for path in paths], distance=near):
            for place in pair:
                labels[place].append(pair)
        alike = dict(zip(paths, connected(labels), strict=True))
    return NamedMedia(same={path: prints[path].digest for path in paths}, alike=alike, broken=broken)
