"""What a look into one media file brings: its size and length, a digest of what it shows, how it looks, or its fault.

Runs in a worker process that is killed when a decoder hangs (`workers.py`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmrl.curation.looks import LOOK, look_of
from mmrl.data.images import FORMATS, BrokenMedia, load_image
from mmrl.data.video_info import REASONS, ClipInfo, ClipTrouble
from mmrl.data.video_inspect import inspect_clip
from mmrl.data.video_readers import pyav_frames
from mmrl.errors import DataError

Depth = Literal["header", "decode", "look"]
DEPTHS: tuple[Depth, ...] = ("header", "decode", "look")  # each includes those before it
SAMPLED_FRAMES = 8  # of a clip, evenly spaced, are decoded and looked at
MISSING = "missing file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One file to look into."""

    path: str
    kind: Literal["image", "video"]
    depth: Depth


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """One file. Where `reason` is set nothing else is known."""

    path: str
    kind: Literal["image", "video"]
    width: int = 0  # pixels, upright
    height: int = 0
    seconds: float = 0.0  # video
    frames: int = 1
    digest: bytes = b""  # 16 bytes; of a picture's size and pixels, or of a video's bytes; empty at depth "header"
    looks: bytes = b""  # of the picture, or of SAMPLED_FRAMES frames, as `LOOK`
    reason: str = ""  # slug: why the file cannot be used
    message: str = ""  # the full sentence


def examine(request: Request) -> MediaFacts:
    """Opens one file; whatever is wrong with it is in the result, never raised."""
    path, kind = request.path, request.kind
    try:
        return _image(request) if kind == "image" else _video(request)
    except DataError as error:
        return MediaFacts(path=path, kind=kind, reason=MISSING, message=str(error))
    except BrokenMedia as error:
        return MediaFacts(path=path, kind=kind, reason=error.reason, message=str(error))
    except ClipTrouble as error:
        way = REASONS.get(error.reason, "fetch it again")
        return MediaFacts(
            path=path, kind=kind, reason=error.reason, message=f"{path} {error}. Its samples are dropped; {way}."
        )


def _image(request: Request) -> MediaFacts:
    if request.depth == "header":
        width, height = _size(request.path)
        return MediaFacts(path=request.path, kind="image", width=width, height=height)
    picture = load_image(request.path)
    whole = hashlib.blake2b(f"{picture.width}×{picture.height}\n".encode(), digest_size=16)
    whole.update(picture.tobytes())
    looks = look_of(picture).tobytes() if request.depth == "look" else b""
    return MediaFacts(
        path=request.path,
        kind="image",
        width=picture.width,
        height=picture.height,
        digest=whole.digest(),
        looks=looks,
    )


def _size(path: str) -> tuple[int, int]:
    """From the header alone, upright; a picture whose header is odd is decoded, which says what is wrong."""
    from PIL import Image

    Image.init()
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = picture.size
    except Exception:
        width, height = load_image(path).size
        turned = False
    return (height, width) if turned else (width, height)


def _video(request: Request) -> MediaFacts:
    path = request.path
    if not os.path.exists(path):
        raise DataError(f"the video {path} does not exist; put the file there or correct the path")
    if not os.path.isfile(path):
        raise BrokenMedia(f"{path} is not a file. Its samples are dropped.", reason="not a file")
    if os.path.getsize(path) == 0:
        raise BrokenMedia(f"{path} is empty (0 bytes). Its samples are dropped.", reason="empty file")
    try:
        info = inspect_clip(path)
        digest, looks = b"", b""
        if request.depth != "header":
            digest = _file_digest(path)
            looks = _frames(path, info, looks=request.depth == "look")
    except OSError as error:
        raise BrokenMedia(f"{path} cannot be read ({error.strerror}).", reason="unreadable file") from error
    length = info.seconds[-1] + 1 / info.frame_rate
    return MediaFacts(
        path=path,
        kind="video",
        width=info.width,
        height=info.height,
        seconds=round(length, 6),
        frames=info.frames,
        digest=digest,
        looks=looks,
    )


def _frames(path: str, info: ClipInfo, *, looks: bool) -> bytes:
    from PIL import Image

    wanted = sorted({(2 * i + 1) * info.frames // (2 * SAMPLED_FRAMES) for i in range(SAMPLED_FRAMES)})
    found = []
    for frames in pyav_frames(path, info, wanted):
        found += [look_of(Image.fromarray(frame)) for frame in frames] if looks else []
    if not looks:
        return b""
    found += [found[-1]] * (SAMPLED_FRAMES - len(found))  # a clip of fewer frames repeats its last
    return np.concatenate(found).astype(LOOK).tobytes()


def _file_digest(path: str) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.digest()
