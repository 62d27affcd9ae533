"""Real clips for tests, written with PyAV. A frame shows its own number, so that a test knows which ones were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

_BARS = 8  # the number's bits, as dark and bright bars from left to right


def write_clip(
    path: Path,
    frames: int = 24,
    *,
    fps: int | Fraction = 8,
    width: int = 96,
    height: int = 64,
    codec: str = "libx264",
    key_frame_every: int = 12,
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    texture: bool = False,
) -> Path:
    """A clip of numbered frames. `stamps`: milliseconds at which they are shown. `texture`: noise: a larger file."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=dict(container or {})) as file:
        stream: Any = file.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = key_frame_every
        stream.options = {"crf": "10"} if options is None and codec == "libx264" else dict(options or {})
        if stamps is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for number in range(frames):
            pixels = numbered(number, width, height)
            if texture:
                pixels = pixels // 2 + random.integers(0, 64, pixels.shape, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    """A file with a sound stream and no picture."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        for start in range(0, 16_000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16_000, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def numbered(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """The picture of a frame's number (0–255)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for bit in range(_BARS):
        if number >> bit & 1:
            pixels[:, bit * width // _BARS : (bit + 1) * width // _BARS] = 255
    return pixels


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number a decoded frame [H, W, 3] shows."""
    height, width = frame.shape[:2]
    middle = frame[height // 4 : height * 3 // 4].astype(np.float32).mean((0, 2))
    bars = [
        middle[int((bit + 0.25) * width / _BARS) : int((bit + 0.75) * width / _BARS)].mean() for bit in range(_BARS)
    ]
    threshold = (min(bars) + max(bars)) / 2 if max(bars) - min(bars) > 40 else 64.0
    return sum(1 << bit for bit in range(_BARS) if bars[bit] > threshold)
