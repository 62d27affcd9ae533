"""A sample's media, decoded for a page: pictures and frames as `data:` addresses, so that no file is ever served.

Clips are decoded in a process that can be killed (`mmrl/data/video.py`). What cannot be shown is said in words.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.data.images import load_image
from mmrl.data.pictures import clip_frames
from mmrl.errors import DataError, MediaError
from mmrl.types import Media, MediaView
from mmrl_apps.shared.guard import MediaGuard

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST_SIDE = 900  # pixels of a shown picture; larger ones are scaled down
FRAME_SIDE = 320  # of a frame in a strip
MOST_FRAMES = 32  # of a clip or list; more are thinned out evenly
PLAYED_BYTES = 6 * 2**20  # a clip up to this size can also be played
_SMALL = 200  # pixels; pictures below are kept exactly, and shown enlarged without smoothing
_PLAYABLE = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/mp4", ".m4v": "video/mp4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One picture or frame of a page."""

    uri: str
    width: int  # of the original, pixels
    height: int
    small: bool  # enlarge it, pixel by pixel
    seconds: float | None = None  # the frame's time
    note: str = ""  # "3 of 8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMedia:
    """One media item of a page."""

    title: str  # the file's name, not its folder: pages are passed on
    pictures: tuple[Shown, ...] = ()
    clip: bool = False  # pictures are frames in order of time
    length: float = 0.0  # seconds that the time line covers
    video_uri: str = ""  # the clip itself, where it is small enough to be played
    note: str = ""
    broken: str = ""  # why there is nothing to see

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the original, pixels; (0, 0) where nothing can be seen."""
        return (self.pictures[0].width, self.pictures[0].height) if self.pictures else (0, 0)


def show_media(
    media: Sequence[Media], views: Sequence[MediaView], guard: MediaGuard | None, *, play: bool = True
) -> tuple[ShownMedia, ...]:
    """Every item, in order. `views` say which frames the model saw. guard: None where the caller owns the files."""
    shown = []
    for item, view in zip_longest(media, views[: len(media)]):
        name = Path(item.path or (item.paths[0] if item.paths else "")).name
        try:
            if guard is not None:
                guard.check(item)
            shown.append(_show(item, view, name, play=play))
        except (DataError, MediaError) as error:
            shown.append(ShownMedia(title=name, broken=_without_folders(str(error), item)))
    return tuple(shown)


def embedded(picture: Image, longest: int = LONGEST_SIDE) -> str:
    """A picture as a data: address, scaled down where it is larger."""
    small = max(picture.size) < _SMALL
    copy = picture.copy()
    copy.thumbnail((longest, longest))
    buffer = BytesIO()
    if small:
        copy.save(buffer, format="PNG", optimize=True)
    else:
        copy.save(buffer, format="JPEG", quality=88)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _show(item: Media, view: MediaView | None, name: str, *, play: bool) -> ShownMedia:
    if item.type == "image":
        path = item.path or ""
        return ShownMedia(title=name, pictures=(_file(path, _stamp(path), LONGEST_SIDE),))
    if item.type == "frames":
        pictures = tuple(_listed(item, view))
        rate = item.fps or 1.0
        note = f"{len(item.paths)} frames, {rate:g} per second"
        return ShownMedia(title=name, pictures=pictures, clip=True, length=len(item.paths) / rate, note=note)
    return _clip(item, view, name, play=play)


def _listed(item: Media, view: MediaView | None) -> Iterator[Shown]:
    seen = tuple(view.frames) if view is not None and view.frames else tuple(range(len(item.paths)))
    rate = item.fps or 1.0
    for place in _thinned(len(seen)):
        number = seen[place]
        file = _file(item.paths[number], _stamp(item.paths[number]), FRAME_SIDE)
        yield _frame(file, number / rate, place, len(seen))


def _clip(item: Media, view: MediaView | None, name: str, *, play: bool) -> ShownMedia:
    path = item.path or ""
    if view is not None and view.frames:
        places = _thinned(len(view.frames))
        numbers = tuple(view.frames[place] for place in places)
        times = tuple(view.seconds[place] for place in places)
        files = _frames(item, _stamp(path), numbers)
        pictures = tuple(
            _frame(file, second, place, len(view.frames))
            for file, second, place in zip(files, times, places, strict=True)
        )
        told = f"{len(view.frames)} frames seen by the model" + (
            ", some of them shown" if len(places) < len(view.frames) else ""
        )
        told += f"; read by {view.reader}" if view.reader else ""
        length = max(view.seconds, default=0.0)
    else:
        pictures = _frames(item, _stamp(path), ())
        told, length = f"{len(pictures)} frames, evenly spaced", 0.0
    if item.start is not None or item.end is not None:
        told += f"; used from {item.start or 0:g} s to {'its end' if item.end is None else f'{item.end:g} s'}"
    video = _played(path, _stamp(path)) if play else ""
    if play and not video:
        told += f"; too large to be played here (over {PLAYED_BYTES // 2**20} MiB), or of a kind no browser plays"
    return ShownMedia(
        title=name, pictures=pictures, clip=True, length=max(length, item.end or 0.0), video_uri=video, note=told
    )


def _frame(file: Shown, seconds: float, place: int, count: int) -> Shown:
    return Shown(
        uri=file.uri,
        width=file.width,
        height=file.height,
        small=file.small,
        seconds=seconds,
        note=f"{place + 1} of {count}",
    )


def _thinned(count: int) -> list[int]:
    """At most MOST_FRAMES of `count` places, evenly, first and last among them."""
    if count <= MOST_FRAMES:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_FRAMES - 1)) for i in range(MOST_FRAMES)})


def _stamp(path: str) -> int:
    """Changes when the file does, so that nothing old is shown."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=128)
def _file(path: str, stamp: int, longest: int) -> Shown:
    picture = load_image(path)
    return _shown(picture, longest)


@lru_cache(maxsize=16)
def _frames(item: Media, stamp: int, numbers: tuple[int, ...]) -> tuple[Shown, ...]:
    return tuple(_shown(picture, FRAME_SIDE) for picture in clip_frames(item, numbers))


@lru_cache(maxsize=4)
def _played(path: str, stamp: int) -> str:
    """The clip as a data: address; empty where it is too large or no browser plays its kind."""
    kind = _PLAYABLE.get(Path(path).suffix.lower())
    if kind is None or Path(path).stat().st_size > PLAYED_BYTES:
        return ""
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def _shown(picture: Image, longest: int) -> Shown:
    return Shown(
        uri=embedded(picture, longest),
        width=picture.width,
        height=picture.height,
        small=max(picture.size) < _SMALL,
    )


def _without_folders(message: str, item: Media) -> str:
    for path in item.paths if item.path is None else (item.path,):
        message = message.replace(path, Path(path).name)
    return message
