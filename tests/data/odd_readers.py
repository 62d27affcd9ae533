"""Readers for the decoding process that misbehave as real decoders do. Named by path in tests; run in the process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mmrl.data.video_info import ClipInfo
from mmrl.data.video_readers import pyav_frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def hang(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Waits for data that never comes: a pipe nobody writes to."""
    pipe = f"{path}.pipe"
    os.mkfifo(pipe)
    with open(pipe, "rb") as source:
        source.read()
    yield from pyav_frames(path, info, frames)


def halfway(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Gives a first frame, then hangs."""
    yield next(pyav_frames(path, info, frames[:1]))
    time.sleep(600)


def leak(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Takes 64 MiB more every few milliseconds and touches it."""
    held = []
    while True:
        held.append(bytearray(os.urandom(1)) * (64 * 2**20))
        time.sleep(0.005)


def crash(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """As a damaged file can make a decoder do."""
    os.abort()


def hang_on_some(path: str, info: ClipInfo, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    """Hangs on files whose name says so."""
    if "hangs" in os.path.basename(path):
        time.sleep(600)
    yield from pyav_frames(path, info, frames)
