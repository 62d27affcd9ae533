"""Looking at a clip's packets without decoding them (PyAV): how many frames, when, and whether the file is whole.

Runs in the decoding process.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from mmrl.data.video_info import ClipInfo, ClipTrouble

# Containers that store when each frame is shown. Elsewhere (AVI) times are made up, and frames found by counting only.
TIMED_CONTAINERS = ("mov", "mp4", "matroska", "webm")


def inspect_clip(path: str) -> ClipInfo:
    """Read every packet's header. Raises ClipTrouble."""
    import av

    _check_whole(path)
    try:
        with av.open(path) as container:
            if not container.streams.video:
                sort = "no video stream" if len(container.streams) else "corrupt video"
                raise ClipTrouble(sort, "has no video stream")
            stream = container.streams.video[0]
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and not packet.is_discard
            ]
            announced = int(stream.frames)
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            unit = float(stream.time_base or 0)
            width, height = stream.codec_context.width, stream.codec_context.height
            formats = container.format.name.split(",")
            length = _length(container)
    except av.error.FFmpegError as error:
        raise ClipTrouble("corrupt video", f"cannot be opened ({error.strerror or error})") from error
    if announced > 1.02 * len(packets) + 1 and not set(formats) & {"mov", "mp4"}:
        raise ClipTrouble("truncated video", f"announces {announced} frames and holds {len(packets)}")
    if not packets:
        raise ClipTrouble("corrupt video", "has a video stream without a single frame")
    stamps = [stamp for stamp, _ in packets if stamp is not None]
    timed = bool(set(formats) & set(TIMED_CONTAINERS))
    told_apart = timed and len(set(stamps)) == len(packets) and unit > 0
    if rate <= 0:
        rate = (len(packets) - 1) / ((max(stamps) - min(stamps)) * unit) if told_apart and len(packets) > 1 else 1.0
    order = sorted(range(len(packets)), key=lambda i: stamps[i]) if told_apart else list(range(len(packets)))
    shown = [stamps[i] for i in order] if told_apart else []
    seconds = [(stamp - shown[0]) * unit for stamp in shown] or [i / rate for i in range(len(packets))]
    if length is not None and length - seconds[-1] > max(0.5, 3 / rate):
        raise ClipTrouble("truncated video", f"announces {length:.1f} s and ends at {seconds[-1]:.1f} s")
    return ClipInfo(
        width=width,
        height=height,
        frame_rate=rate,
        seconds=tuple(seconds),
        stamps=tuple(shown),
        keys=tuple(place for place, i in enumerate(order) if packets[i][1]),
        reordered=told_apart and stamps != sorted(stamps),
        avoid_decord=_avoid_decord(formats, packets, told_apart),
    )


def _avoid_decord(formats: list[str], packets: list[tuple[int | None, bool]], told_apart: bool) -> str:
    """decord 0.6 finds frames by key frame and time stamp, which goes wrong in the cases named here."""
    if not set(formats) & set(TIMED_CONTAINERS):
        return f"it returns other frames than asked from {formats[0]} files"
    if not told_apart:
        return "it returns other frames than asked where frames have no time stamps of their own"
    key: int | None = None
    for stamp, is_key in packets:
        if is_key:
            key = stamp
        elif key is not None and stamp is not None and stamp < key:
            return "it returns other frames than asked where groups of pictures are open"
    return ""


def _length(container: object) -> float | None:
    """Seconds the container announces, where they can only mean the video: it has no other stream."""
    import av

    streams, duration = getattr(container, "streams", ()), getattr(container, "duration", None)
    if len(streams) != 1 or duration is None:
        return None
    start = getattr(container, "start_time", None) or 0
    return float(duration - max(start, 0)) / av.time_base


def _check_whole(path: str) -> None:
    """MP4 and QuickTime files are boxes that say their size: one that ends beyond the file was cut off.

    Decoders notice that late or never: the index at the front still lists every frame. ISO/IEC 14496-12 §4.2.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(12)[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return
        at = 0
        while at < size:
            length = _box_length(file, at, size)
            if length < 8 or at + length > size:
                raise ClipTrouble("truncated video", f"was cut off: a part of it goes beyond its {size:,} bytes")
            at += length


def _box_length(file: BinaryIO, at: int, size: int) -> int:
    """Bytes of the box that begins at `at`; fewer than 8 where its header is not whole."""
    file.seek(at)
    header = file.read(16)
    length = int.from_bytes(header[:4], "big")
    if length == 1:  # the size follows the name, in 8 bytes
        return int.from_bytes(header[8:16], "big") if len(header) == 16 else 0
    if length == 0:  # to the end of the file
        return size - at if len(header) >= 8 else 0
    return length if len(header) >= 8 else 0
