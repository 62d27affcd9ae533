"""The decoded pictures of a sample, for rewards and people who look at them: of a clip, the frames the model saw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING

from mmrl.data.images import load_image
from mmrl.data.video import ClipReader
from mmrl.data.video_info import ClipInfo
from mmrl.data.video_plan import ClipRules, plan_clip
from mmrl.types import Media, MediaView, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


def pictures_of(sample: Sample, views: Sequence[MediaView] = ()) -> tuple[Image, ...]:
    """RGB pictures in the original's size, item after item: one per image, one per frame of a clip or of listed frames.

    `views` (of the prompt, a completion or a trace) say which frames the model saw. Without them a clip's frames are
    chosen by the default rules, and all listed frames are given. Raises DataError where a file is missing, BrokenMedia
    where one cannot be used.
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
    """These frames of a clip in their original size; without numbers, those of the default rules."""
    assert media.path is not None

    def choose(info: ClipInfo) -> Sequence[int]:
        return frames or plan_clip(info, media, ClipRules()).frames

    return [picture for piece in _clips().read(media.path, choose, _pictures).pieces for picture in piece]


def _pictures(frames: NDArray[np.uint8]) -> list[Image]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


@cache
def _clips() -> ClipReader:
    """One decoding process for all who look at frames in this process."""
    return ClipReader()
