"""The files of a sample."""

from __future__ import annotations

from mmrl.types import Sample


def media_paths(sample: Sample) -> list[str]:
    """All of them, in order; of a list of frames, every frame."""
    return [path for item in sample.media for path in (item.paths if item.path is None else (item.path,))]
