"""The decoded pictures of a sample, for rewards that look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrl.data.images import BrokenMedia, load_image
from mmrl.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image


def pictures_of(sample: Sample) -> tuple[Image, ...]:
    """One upright RGB picture per image, one per file of listed frames, in order.

    Raises BrokenMedia where one cannot be used, and for videos, which are not decoded yet.
    """
    pictures: list[Image] = []
    for media in sample.media:
        if media.type == "video":
            raise BrokenMedia(f"{media.path}: videos are not decoded yet", reason="video not supported")
        paths = media.paths if media.path is None else (media.path,)
        pictures.extend(load_image(path) for path in paths)
    return tuple(pictures)
