"""What is known of a clip before any frame is decoded, and what goes between the decoding process and its parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What can be wrong with a clip that is there: slug → what to do about it. `images.REASONS` has those of any file.
REASONS: Mapping[str, str] = {
    "truncated video": "the end of the file is missing: fetch or copy it again",
    "corrupt video": "fetch it again, or convert it: ffmpeg -i OLD NEW.mp4",
    "no video stream": "it may be sound only; remove it, or take the file that has the picture",
    "empty time range": "correct start and end",
    "start beyond the end": "correct start, or take the clip it was meant for",
    "too few frames": "two frames are the least; give a longer range, or show the frame as a picture",
    "decoding timed out": "convert it to H.264 with a key frame each second, cut it, or raise video.deadline_seconds",
    "decoding took too much memory": "scale it down, or raise video.memory_gib",
    "decoder crashed": "convert it: ffmpeg -i OLD NEW.mp4",
    "frames of different sizes": "scale the listed frames to one size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipInfo:
    """A clip's video stream, from its packets; frames are counted in the order they are shown."""

    width: int  # pixels, as stored: a rotation noted in the file is not applied
    height: int
    frame_rate: float  # frames per second, on average
    seconds: tuple[float, ...]  # when each frame is shown, from the first one's 0
    stamps: tuple[int, ...]  # the same in the stream's own units; empty where they do not tell frames apart
    keys: tuple[int, ...]  # numbers of the frames that decoding can start at
    reordered: bool  # some frames are stored in another order than they are shown
    avoid_decord: str  # why decord would return other frames than asked; empty: it would not

    @property
    def frames(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """To the process: look at the clip. Answered by a `ClipInfo` or a `Trouble`."""

    path: str
    deadline_seconds: float  # the process ends itself soon after, should its parent be gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """To the process: these frames, ascending. Answered by arrays [n, height, width, 3] uint8, then None or Trouble."""

    path: str
    reader: str  # "module:function", see `video_readers.py`
    info: ClipInfo
    frames: tuple[int, ...]
    deadline_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """From the process: this cannot be read."""

    reason: str  # a key of REASONS
    message: str  # what follows "the clip …"


class ClipTrouble(Exception):
    """Raised by readers: `reason` is a key of REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
