"""One picture file → an upright RGB picture, or a countable reason why not.

    file missing            → DataError: the data set lacks something it names; the run stops
    file there, but broken  → BrokenMedia: its samples are dropped with the reason; the run goes on

Turns the picture upright (EXIF orientation), so that width, height and boxes mean what a viewer shows. Transparent
parts become white. 16-bit grey is scaled to 8 bits. Embedded colour profiles are not applied. Opens nothing else than
the formats below (some others would start a program), and changes no global state of Pillow.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mmrl.errors import DataError, MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_478_485  # Pillow's own default: beyond it, it warns of decompression bombs
MAX_ASPECT = 200  # of the longer side to the shorter; what Qwen-VL preprocessing refuses
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

# What can be wrong with a picture file that is there: slug → what to do about it.
REASONS: Mapping[str, str] = {
    "not a file": "give the path of a picture or clip",
    "unreadable file": "check its permissions and the disk",
    "empty file": "fetch or copy it again",
    "unknown format": f"readable are {', '.join(FORMATS)}: convert it, or fetch it again if it should be one of them",
    "truncated image": "the end of the file is missing: fetch or copy it again",
    "corrupt image": "fetch or copy it again",
    "several frames": "save the frame that is meant, or list the frames as media type 'frames'",
    "too many pixels": "scale it down",
    "extreme aspect ratio": "crop or pad it",
    "unsupported pixel type": "convert it to 8-bit RGB or grey",
}


class BrokenMedia(MediaError):
    """A media file is there and cannot be used. `reason` is a slug to count by, the message a full sentence."""

    def __init__(self, message: str, *, reason: str = "broken media") -> None:
        super().__init__(message)
        self.reason = reason


def load_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in a file: upright, RGB, fully decoded, without metadata, independent of the file."""
    from PIL import Image

    with _open_file(path) as file:
        picture = _open_picture(file, path)
        _check_header(picture, path, max_pixels)
        try:
            picture.load()
        except MemoryError:
            raise
        except Exception as error:  # decoders raise every kind of exception on damaged bytes
            raise _broken(path, _damage(error), f"cannot be decoded ({_told(error)})") from error
        turn = _UPRIGHT.get(_orientation(picture))
        try:
            upright = picture if turn is None else picture.transpose(Image.Transpose[turn])
            rgb = _to_rgb(upright)
        except ValueError as error:
            raise _broken(path, "unsupported pixel type", f"has pixels of mode {picture.mode!r} ({error})") from error
    rgb.info = {}  # an orientation left in here would make a later reader turn the picture again
    return rgb


def check_file(path: str | os.PathLike[str], *, what: str) -> None:
    """Raises DataError where there is no such file, BrokenMedia where it is none, or empty. `what`: for messages."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"the {what} {os.fspath(path)} does not exist. The data set names it, so its samples cannot be shown to "
            f"the model: put the file there, correct the path, or remove its rows (`mmrl data validate` lists them). "
            f"See docs/failures/unusable-media.md."
        ) from None
    except OSError as error:
        raise _broken(path, "unreadable file", f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not an ordinary file"
        raise _broken(path, "not a file", f"is {kind}")
    if status.st_size == 0:
        raise _broken(path, "empty file", "is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise _broken(path, "unreadable file", "cannot be read (permission denied)")


def _open_file(path: str | os.PathLike[str]) -> BinaryIO:
    check_file(path, what="picture")
    try:
        return open(path, "rb")
    except OSError as error:
        raise _broken(path, "unreadable file", f"cannot be read ({error.strerror})") from error


def _open_picture(file: BinaryIO, path: str | os.PathLike[str]) -> Image:
    from PIL import Image, UnidentifiedImageError

    Image.init()
    try:
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise _broken(path, "unknown format", "is no picture in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _broken(path, "too many pixels", f"is far too large ({error})") from error
    except MemoryError:
        raise
    except Exception as error:  # as in load_image
        raise _broken(path, _damage(error), f"has an unreadable header ({_told(error)})") from error


def _check_header(picture: Image, path: str | os.PathLike[str], max_pixels: int) -> None:
    """Refuses by what the header says, before any pixel is decoded."""
    width, height = picture.size
    if width < 1 or height < 1:
        raise _broken(path, "corrupt image", f"says it has {width}×{height} pixels")
    if width * height > max_pixels:
        raise _broken(path, "too many pixels", f"has {width}×{height} pixels; the limit is {max_pixels:,} in all")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise _broken(path, "extreme aspect ratio", f"has {width}×{height} pixels; the limit is {MAX_ASPECT}:1")
    if picture.format == "MPO":  # a camera's JPEG: the picture, then previews or the other eye's view
        return
    try:
        frames = getattr(picture, "n_frames", 1)
    except Exception as error:  # as in load_image
        raise _broken(path, _damage(error), f"has frames that cannot be counted ({_told(error)})") from error
    if frames > 1:
        raise _broken(path, "several frames", f"holds {frames} frames or pages, and which one is meant is unknown")


# EXIF orientation → the name of the `Transpose` that turns the picture upright.
_UPRIGHT: Mapping[int, str] = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _orientation(picture: Image) -> int:
    """The EXIF orientation that is still to be applied. Call after `load`: Pillow turns a TIFF itself while loading."""
    try:
        value = picture.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF: like every viewer, show the pixels as they are stored
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.mode.startswith("I"):
        picture = _grey_from_wide(picture)
    elif picture.mode == "F":
        raise ValueError("floating-point grey has no fixed range to map to 0–255")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")


def _grey_from_wide(picture: Image) -> Image:
    """16-bit grey (also when held in 32 bits) to 8 bits: 0 → 0, 65535 → 255, rounded. Pillow's own conversion clips."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"32-bit grey from {values.min()} to {values.max()} has no fixed range to map to 0–255")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _damage(error: Exception) -> str:
    return "truncated image" if "truncated" in str(error).lower() else "corrupt image"


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__


def _broken(path: str | os.PathLike[str], reason: str, what: str) -> BrokenMedia:
    return BrokenMedia(f"{Path(path)} {what}. Its samples are dropped; {REASONS[reason]}.", reason=reason)
