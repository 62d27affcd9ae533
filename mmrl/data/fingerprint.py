"""What tells media apart: a digest for equal ones, and a fingerprint that survives re-encoding and scaling.

The fingerprint is a perceptual hash: which of the low frequencies (discrete cosine transform) of the grey picture at
32×32 exceed their median clearly. Clearly, because in smooth pictures most frequencies are next to nothing, and whether
they pass the median is up to the compression. Two pictures whose hashes differ in few bits look alike in structure; the
thumbnail then tells apart those that differ in colour or brightness, among them all flat ones, whose hashes are equal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmrl.data.images import BrokenMedia, load_image
from mmrl.errors import DataError
from mmrl.progress import Progress
from mmrl.types import Sample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

HASH_BITS = 63  # 8×8 frequencies without the mean
_GREY_SIDE = 32
_THUMBNAIL_SIDE = 8
_CLEARLY = 0.02  # of the strongest frequency; of 0 to 0.05 this misses fewest re-encoded pictures without mixing others


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """One media file. A video has no look: only equal files are the same."""

    digest: str  # SHA-256 of a picture's size and pixels, or of a video's bytes
    bits: int | None = None  # perceptual hash of a picture
    thumbnail: bytes = b""  # 8×8 RGB
    aspect: float = 1.0  # width / height


def fingerprint(picture: Image) -> Fingerprint:
    """Of an upright RGB picture."""
    from PIL import Image

    pixels = f"{picture.width}×{picture.height}\n".encode() + picture.tobytes()
    box = Image.Resampling.BOX
    return Fingerprint(
        digest=hashlib.sha256(pixels).hexdigest(),
        bits=_perceptual_hash(picture),
        thumbnail=picture.resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), box).tobytes(),
        aspect=picture.width / picture.height,
    )


def fingerprint_files(
    samples: Iterable[Sample], *, progress: Progress
) -> tuple[dict[str, Fingerprint], dict[str, BrokenMedia]]:
    """(path → fingerprint, path → why it cannot be used) of every media file that the samples name; each is read once.

    A file that does not exist raises a DataError.
    """
    pictures: dict[str, bool] = {}
    for sample in samples:
        for item in sample.media:
            for path in (item.path, *item.paths):
                if path is not None:
                    pictures.setdefault(path, item.type != "video")
    found: dict[str, Fingerprint] = {}
    broken: dict[str, BrokenMedia] = {}
    with progress.task("media", len(pictures)) as task:
        for path, is_picture in pictures.items():
            try:
                found[path] = fingerprint(load_image(path)) if is_picture else _of_video(path)
            except BrokenMedia as error:
                broken[path] = error
            task.advance()
    return found, broken


def _of_video(path: str) -> Fingerprint:
    whole = hashlib.sha256()
    try:
        if os.path.getsize(path) == 0:
            raise BrokenMedia(f"{path} is empty (0 bytes). Its samples are dropped.", reason="empty file")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    except FileNotFoundError:
        raise DataError(f"the video {path} does not exist; put the file there or correct the path") from None
    except OSError as error:
        raise BrokenMedia(f"{path} cannot be read ({error.strerror}).", reason="unreadable file") from error
    return Fingerprint(digest=whole.hexdigest())


def _perceptual_hash(picture: Image) -> int:
    import numpy as np
    from PIL import Image

    grey = picture.convert("L").resize((_GREY_SIDE, _GREY_SIDE), Image.Resampling.BOX)
    cosines = _cosines(_GREY_SIDE)
    frequencies = cosines @ np.asarray(grey, dtype=np.float64) @ cosines.T
    low = np.round(frequencies[:8, :8].ravel()[1:], 3)  # rounding: a flat picture has exactly no frequencies
    threshold = np.median(low) + _CLEARLY * np.abs(low).max()
    return int("".join("1" if value else "0" for value in low > threshold), 2)


def _cosines(size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows k: cos(π k (2x + 1) / 2·size), the discrete cosine transform without its scale."""
    import numpy as np

    k, x = np.arange(size)[:, None], np.arange(size)[None, :]
    return np.cos(np.pi * k * (2 * x + 1) / (2 * size))
