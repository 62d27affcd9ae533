"""Decoding video: a clip is written here and now, read by each reader, and its frames are told apart."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from mmrl.data.video_info import ClipInfo
from mmrl.data.video_inspect import inspect_clip
from mmrl.data.video_readers import decord_frames, pyav_frames
from mmrl.doctor.finding import Asked, Finding, Verdict

READERS = {"video with decord": decord_frames, "video with PyAV": pyav_frames}
FRAMES, WIDTH, HEIGHT, RATE = 24, 320, 240, 8
CODECS = ("libx264", "mpeg4")  # the first that this PyAV writes
CHOSEN = (0, 1, 7, 12, 13, 20, 23)
OFF = 3.0  # grey levels; neighbouring frames are 10 apart


def look(part: str, asked: Asked) -> Finding:
    """Raises what the libraries raise."""
    reader = READERS[part]
    with tempfile.TemporaryDirectory(prefix="mmrl-doctor-clip-") as folder:
        path = Path(folder) / "clip.mp4"
        codec = write_clip(path)
        info: ClipInfo = inspect_clip(str(path))
        began = time.perf_counter()
        frames = [frame for piece in reader(str(path), info, CHOSEN) for frame in piece]
        seconds = time.perf_counter() - began
    wrong = [
        number for number, frame in zip(CHOSEN, frames, strict=True) if abs(float(frame.mean()) - grey(number)) > OFF
    ]
    if wrong or info.frames != FRAMES:
        return Finding(
            check=part,
            verdict=Verdict.FAILED,
            detail=f"other frames came back than were asked for: {wrong} of {list(CHOSEN)}",
            advice="a run would show the model other moments than the answers are about: install the tested versions "
            "(constraints.txt) of av and decord",
        )
    return Finding(
        check=part,
        verdict=Verdict.OK,
        detail=f"{len(frames)} of {FRAMES} frames ({codec}, {WIDTH}×{HEIGHT}) are the right ones, "
        f"{1000 * seconds:.0f} ms",
        figures={"seconds": seconds},
    )


def write_clip(path: Path) -> str:
    """Frames of one grey level each, brighter from frame to frame; returns the codec."""
    import av
    import numpy as np

    codec = next(name for name in CODECS if name in av.codecs_available)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((HEIGHT, WIDTH, 3), grey(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return codec


def grey(number: int) -> int:
    """The level of a frame."""
    return 10 + 10 * number
