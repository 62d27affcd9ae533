"""The decoded pictures of a sample, for rewards and people who look at them: of a clip, the frames the model saw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING

from mmrl.data.images import load_image
from mmrl.data.video import ClipReader
from mmrl.data.video_info import ClipInfo, ClipTrouble
from mmrl.types import Media, MediaView, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


def pictures_of(sample: Sample, views: Sequence[MediaView] = ()) -> tuple[Image, ...]:
    """RGB pictures in the original's size, item after item: one per image, one per frame of a clip or of listed frames.

    `views` (of the prompt, a completion or a trace) say which frames the model saw. Without them no model has seen any:
    a clip gives two frames a second, 4 to 32 of them, evenly spaced, and listed frames are given all. Raises DataError
    where a file is missing, BrokenMedia where one cannot be used.
    """
    pictures: list[Image] = []
    for media, view in zip_longest(sample.media, views):
        if media is None:
            break
        frames = view.frames if view is not None else ()
        if media.type == "video":
            pictures.extend(clip_frames(media, frames))
        elif media.path is not None:
            pictures.append(load_image(media.path))
        else:
            pictures.extend(load_image(media.paths[i]) for i in frames or range(len(media.paths)))
    return tuple(pictures)


def clip_frames(media: Media, frames: Sequence[int] = ()) -> list[Image]:
    """These frames of a clip in their original size; without numbers, some that show the whole of it."""
    assert media.path is not None

    def choose(info: ClipInfo) -> Sequence[int]:
        return frames or _overview(info, media)

    return [picture for piece in _clips().read(media.path, choose, _pictures).pieces for picture in piece]


def _overview(info: ClipInfo, media: Media) -> list[int]:
    """The rules of `video_plan.py` need torch, and who looks without a model should not have to load it."""
    start, end = media.start or 0.0, info.seconds[-1] if media.end is None else media.end
    inside = [i for i, second in enumerate(info.seconds) if start <= second <= end]
    if not inside:
        raise ClipTrouble("too few frames", f"shows no frame from {start:g} s to {end:g} s")
    count = min(len(inside), max(4, min(32, round(2 * (info.seconds[inside[-1]] - info.seconds[inside[0]])))))
    return [inside[round(i * (len(inside) - 1) / max(1, count - 1))] for i in range(count)]


def _pictures(frames: NDArray[np.uint8]) -> list[Image]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


@cache
def _clips() -> ClipReader:
    """One decoding process for all who look at frames in this process."""
    return ClipReader()
