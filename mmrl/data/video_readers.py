"""Frames of a clip by number: with decord, and with PyAV where decord cannot or must not.

A reader is a function (path, info, frames) → arrays [n, height, width, 3] uint8 RGB, frames ascending, a few at a time.
It raises whatever its library raises; what PyAV raises is told apart into the reasons of `video_info.py`. Runs in the
decoding process.

decord 0.6 was compared with known frames of some 400 generated clips. Wrong frames came back, without any error, from
AVI files, from clips with open groups of pictures (`ClipInfo.avoid_decord` catches both), and from some H.264 clips
as the very last frame alone; so where frames are stored out of order the last one is looked at with PyAV too.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mmrl.data.video_info import ClipInfo, ClipTrouble

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIECE_BYTES = 32 * 2**20  # of frames that go to the parent at a time
_NEAR_END = 16  # frames: as far as decord's last group of pictures was seen to go wrong
_SKIP = 32  # frames: rather decode so many than seek


def decord_frames(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """With decord, one thread."""
    import decord  # type: ignore[import-untyped]

    if info.avoid_decord:
        raise ClipTrouble("corrupt video", info.avoid_decord)
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    if len(reader) != info.frames:
        raise ClipTrouble("corrupt video", f"it counts {len(reader)} frames, the file has {info.frames}")
    pieces = list(_pieces(frames, info))
    for piece in pieces[:-1]:
        yield _sized(reader.get_batch(list(piece)).asnumpy(), info)
    last: NDArray[np.uint8] = _sized(reader.get_batch(list(pieces[-1])).asnumpy(), info)
    if info.reordered and frames[-1] >= info.frames - _NEAR_END:
        _check_last(path, info, frames[-1], last[-1])
    yield last


def pyav_frames(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """With PyAV: decoded in order, from the nearest key frame where time stamps tell frames apart."""
    import numpy as np

    held: list[NDArray[np.uint8]] = []
    room = _room(info)
    for _, frame in _decoded(path, info, frames):
        held.append(frame.to_ndarray(format="rgb24"))
        if len(held) == room:
            yield _sized(np.stack(held), info)
            held = []
    if held:
        yield _sized(np.stack(held), info)


def _decoded(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """(number, PyAV frame) of each frame that is asked for."""
    import av

    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"  # the same frames in the same order on any machine
            numbers = {stamp: number for number, stamp in enumerate(info.stamps)}
            source, at = container.decode(stream), -1  # `at`: the frame that was decoded last
            for wanted in frames:
                key = _key_before(info, wanted) if info.stamps else 0
                if key > at + _SKIP:
                    container.seek(info.stamps[key], stream=stream, backward=True)
                    source, at = container.decode(stream), -1
                while True:
                    frame = next(source, None)
                    if frame is None:
                        raise ClipTrouble("truncated video", f"ends before its frame {wanted} of {info.frames}")
                    at = numbers.get(frame.pts or 0, -1) if info.stamps else at + 1
                    if at == wanted:
                        yield wanted, frame
                        break
                    if at > wanted:
                        raise ClipTrouble("corrupt video", f"lacks frame {wanted} of {info.frames}")
    except av.error.FFmpegError as error:
        raise ClipTrouble("corrupt video", f"cannot be decoded ({error.strerror or error})") from error


def _key_before(info: ClipInfo, frame: int) -> int:
    place = bisect.bisect_right(info.keys, frame)
    return info.keys[place - 1] if place else 0


def _check_last(path: str, info: ClipInfo, number: int, found: NDArray[np.uint8]) -> None:
    """Raises where decord's frame looks more like one of the frames before `number` than like `number`.

    The two libraries convert colours a little differently, so frames are compared, small and grey, with each other and
    not with a threshold. Where neighbours look alike nothing is found, and nothing is lost.
    """
    import numpy as np

    seen = _thumbnail(found)
    candidates = range(max(0, number - _NEAR_END), number + 1)
    distances = {
        at: float(np.abs(seen - _thumbnail(frame.to_ndarray(format="rgb24"))).mean())
        for at, frame in _decoded(path, info, candidates)
    }
    best = min(distances, key=lambda at: (distances[at], -at))
    if distances[best] < 0.8 * distances[number]:
        raise ClipTrouble("corrupt video", f"it returned frame {best} of the clip as its frame {number}")


def _thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    import numpy as np
    from PIL import Image

    small = Image.fromarray(frame).convert("L").resize((64, 64), Image.Resampling.BOX)
    return np.asarray(small).astype(np.float32)


def _pieces(frames: Sequence[int], info: ClipInfo) -> Iterator[Sequence[int]]:
    room = _room(info)
    for first in range(0, len(frames), room):
        yield frames[first : first + room]


def _room(info: ClipInfo) -> int:
    return max(1, PIECE_BYTES // (3 * info.width * info.height))


def _sized(frames: NDArray[np.uint8], info: ClipInfo) -> NDArray[np.uint8]:
    if frames.shape[1:] != (info.height, info.width, 3):
        height, width = frames.shape[1:3]
        raise ClipTrouble(
            "corrupt video", f"has frames of {width}×{height} pixels in a stream of {info.width}×{info.height}"
        )
    return frames
