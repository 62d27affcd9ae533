"""A sample's media as pictures inside the page. What cannot be shown is said in words."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.data.images import load_image
from mmrl.data.pictures import clip_frames
from mmrl.errors import DataError, MediaError
from mmrl.types import Media, MediaView

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST_SIDE = 480  # pixels; larger pictures are scaled down
_SMALL = 160  # pixels; pictures below it are kept exactly, and shown enlarged without smoothing
_MOST_FRAMES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of the page, or the words that stand for it."""

    caption: str
    uri: str = ""  # a data: URI; empty: it cannot be shown, and the caption says why
    width: int = 0  # pixels of the original
    height: int = 0
    small: bool = False  # enlarge it, pixel by pixel


def pictures_of(media: tuple[Media, ...], views: tuple[MediaView, ...] = ()) -> list[Picture]:
    """In the order of the sample. Only file names are shown, not folders: the page may be passed on.

    `views` say which frames of a clip the model saw; a few of them are shown.
    """
    return [picture for item, view in zip_longest(media, views[: len(media)]) for picture in _pictures(item, view)]


def _pictures(media: Media, view: MediaView | None) -> Iterator[Picture]:
    if media.type == "image" and media.path is not None:
        yield _picture(media.path)
    elif media.type == "video" and view is not None and view.frames:
        yield from _clip(media, view)
    elif media.type == "frames":
        stride = -(-len(media.paths) // _MOST_FRAMES) or 1
        for position in range(0, len(media.paths), stride):
            yield _picture(media.paths[position], note=f" (frame {position + 1} of {len(media.paths)})")
    else:
        start = 0 if media.start is None else media.start
        end = "its end" if media.end is None else f"{media.end:g} s"
        yield Picture(caption=f"Video {Path(media.path or '').name}, from {start:g} s to {end} (not shown here)")


def _clip(media: Media, view: MediaView) -> Iterator[Picture]:
    path = media.path or ""
    shown = list(range(0, len(view.frames), -(-len(view.frames) // _MOST_FRAMES)))
    try:
        pictures = clip_frames(media, [view.frames[i] for i in shown])
    except (DataError, MediaError) as error:
        yield Picture(caption=f"{Path(path).name} cannot be shown: {str(error).replace(path, Path(path).name)}")
        return
    for position, picture in zip(shown, pictures, strict=True):
        note = f"frame {position + 1} of the {len(view.frames)} seen, at {view.seconds[position]:.1f} s"
        yield _embedded(picture, f"{Path(path).name} ({note})")


def _picture(path: str, note: str = "") -> Picture:
    name = Path(path).name + note
    try:
        picture = load_image(path)
    except (DataError, MediaError) as error:
        return Picture(caption=f"{name} cannot be shown: {str(error).replace(path, Path(path).name)}")
    return _embedded(picture, name)


def _embedded(picture: Image, name: str) -> Picture:
    width, height = picture.size
    small = max(width, height) < _SMALL
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = BytesIO()
    if small:
        picture.save(buffer, format="PNG", optimize=True)
    else:
        picture.save(buffer, format="JPEG", quality=85)
    kind = "png" if small else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(caption=f"{name}, {width} × {height}", uri=uri, width=width, height=height, small=small)
