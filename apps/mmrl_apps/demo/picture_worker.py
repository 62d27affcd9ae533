"""The child process that decodes uploaded pictures: started bare, killed by `uploads.py` when it is late. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from mmrl.child import alarm, connected, limit_address_space
from mmrl.data.images import BrokenMedia, load_image

ADDRESS_SPACE = 3 * 2**30  # bytes; the largest picture that is admitted takes a tenth of it


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePicture:
    """To the process: write the picture in `path`, upright and RGB, to `out` as PNG. Answer: `Size` or `Refused`."""

    path: str
    out: str
    max_pixels: int
    deadline_seconds: float  # the process ends itself soon after, should its parent be gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """From the process: done."""

    width: int  # pixels, of the upright picture
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """From the process: it cannot be used."""

    reason: str  # a key of `mmrl.data.images.REASONS`


def serve(descriptor: int) -> None:
    """Answer requests until the parent closes the connection."""
    connection = connected(descriptor)
    limit_address_space(ADDRESS_SPACE)
    connection.send(None)  # ready
    while True:
        try:
            request: DecodePicture = connection.recv()
        except (EOFError, OSError):
            return
        with alarm(request.deadline_seconds):
            answer = _decode(request)
        try:
            connection.send(answer)
        except OSError:
            return


def _decode(request: DecodePicture) -> Size | Refused:
    try:
        picture = load_image(request.path, max_pixels=request.max_pixels)
        picture.save(request.out, format="PNG", compress_level=1)
    except BrokenMedia as error:
        return Refused(reason=error.reason)
    except MemoryError:
        return Refused(reason="too many pixels")
    return Size(width=picture.width, height=picture.height)
