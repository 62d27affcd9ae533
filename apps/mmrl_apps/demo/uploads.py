"""What people upload → media that are safe to show and to give to the model.

Nothing is believed: not the name, not the ending, not the browser's word. A file must lie in the folder that uploads
come to, be small enough, and begin like the kind it says it is. Pictures are decoded in a process that can be killed
(`picture_worker.py`) and written anew as PNG, so that only our own files are decoded in this one; clips are decoded by
`mmrl.data.video`, in its killable process, whenever frames of them are wanted. Our copies have names of our own.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.child import Child
from mmrl.data.images import REASONS as PICTURE_REASONS
from mmrl.data.images import BrokenMedia
from mmrl.data.video import ClipReader
from mmrl.data.video_info import REASONS as CLIP_REASONS
from mmrl.errors import DataError, MediaError
from mmrl.types import Media
from mmrl_apps.demo.picture_worker import DecodePicture, Refused, Size

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
CLIP_ENDINGS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
ENDINGS = PICTURE_ENDINGS + CLIP_ENDINGS
START_SECONDS = 60.0  # as of the process that decodes clips


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of what may be uploaded for one question."""

    files: int = 8
    file_bytes: int = 64 * 2**20
    pixels: int = 24_000_000  # of a picture, or of a clip's frame
    clip_seconds: float = 600.0
    deadline_seconds: float = 30.0  # to decode one picture or clip
    clip_memory_bytes: int = 2 * 2**30  # of the process that decodes clips


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One admitted picture or clip."""

    media: Media  # a file of ours
    name: str  # the uploader's name for it: to be shown as text, never used as a path
    width: int  # pixels
    height: int
    seconds: float = 0.0  # of a clip


class Uploads:
    """Admits files. One decoding process of each kind serves all sessions, one file at a time."""

    def __init__(self, root: Path, *, limits: Limits | None = None) -> None:
        """`root`: the folder uploads come to; a file anywhere else is refused."""
        self.limits = limits or Limits()
        self._root = root.resolve()
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._clips = ClipReader(
            deadline_seconds=self.limits.deadline_seconds, memory_bytes=self.limits.clip_memory_bytes
        )

    def admit(self, paths: Sequence[str], folder: Path, known: dict[str, Shown]) -> list[Shown]:
        """Copies of these files in `folder`, in order; those in `known` (path → copy) are taken from there.

        Raises MediaError that names the file and says what is wrong with it, or that there are too many.
        """
        if len(paths) > self.limits.files:
            raise MediaError(f"{len(paths)} files are too many for one question; {self.limits.files} are the most.")
        for path in paths:
            if path not in known:
                known[path] = self._admit(Path(path), folder / f"{len(known):04d}")
        return [known[path] for path in paths]

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            self._drop_child()
        self._clips.close()

    def _admit(self, path: Path, stem: Path) -> Shown:
        name = path.name[-80:]
        real = path.resolve()
        if not real.is_relative_to(self._root) or not real.is_file():
            raise MediaError(f"{name} was not uploaded here. Choose the file again.")
        size = real.stat().st_size
        if size > self.limits.file_bytes:
            raise MediaError(
                f"{name} has {size / 2**20:,.0f} MiB; {self.limits.file_bytes / 2**20:,.0f} MiB are the most. Make it "
                f"smaller or shorter."
            )
        ending = path.suffix.lower()
        try:
            if ending in PICTURE_ENDINGS:
                return self._picture(real, stem.with_suffix(".png"), name)
            if ending in CLIP_ENDINGS:
                return self._clip(real, stem, name)
        except BrokenMedia as error:
            advice = CLIP_REASONS.get(error.reason) or PICTURE_REASONS.get(error.reason) or "try another file"
            raise MediaError(f"{name} cannot be used: {error.reason}; {advice}.") from error
        except DataError as error:
            raise MediaError(f"{name} is gone. Choose the file again.") from error
        raise MediaError(f"{name} is neither a picture nor a clip by its ending. Known: {', '.join(ENDINGS)}.")

    def _picture(self, path: Path, out: Path, name: str) -> Shown:
        with self._lock:
            answer = self._decoded(path, out)
        if isinstance(answer, Refused):
            raise BrokenMedia(name, reason=answer.reason)
        return Shown(media=Media(type="image", path=str(out)), name=name, width=answer.width, height=answer.height)

    def _decoded(self, path: Path, out: Path) -> Size | Refused:
        child = self._started()
        seconds = self.limits.deadline_seconds
        child.connection.send(
            DecodePicture(path=str(path), out=str(out), max_pixels=self.limits.pixels, deadline_seconds=seconds)
        )
        answer = self._receive(child, seconds)
        if isinstance(answer, Size | Refused):
            return answer
        late = child.process.poll() is None
        self._drop_child()
        out.unlink(missing_ok=True)
        if late:
            raise MediaError(f"{path.name} was not decoded within {seconds:g} s. Make it smaller.")
        return Refused(reason="corrupt image")

    def _receive(self, child: Child, seconds: float) -> Any:
        """The next answer; None where the process was late or ended."""
        deadline = time.monotonic() + seconds
        while not child.connection.poll(0.05):
            if time.monotonic() >= deadline or child.process.poll() is not None:
                return None
        try:
            return child.connection.recv()
        except (EOFError, OSError):
            return None

    def _started(self) -> Child:
        if self._child is not None and self._child.process.poll() is not None:
            self._drop_child()
        if self._child is None:
            child = Child("mmrl_apps.demo.picture_worker:serve")
            if not child.connection.poll(START_SECONDS):
                child.kill()
                raise MediaError("the process that decodes pictures did not start; try again.")
            try:
                child.connection.recv()
            except (EOFError, OSError):
                child.kill()
                raise MediaError("the process that decodes pictures ended while it started; try again.") from None
            self._child = child
        return self._child

    def _drop_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _clip(self, path: Path, stem: Path, name: str) -> Shown:
        ending = container(path)
        if not ending:
            raise MediaError(f"{name} does not begin like a clip. Convert it: ffmpeg -i OLD NEW.mp4")
        out = stem.with_suffix(ending)
        shutil.copyfile(path, out)
        try:
            info = self._clips.inspect(str(out))
            length = info.frames / info.frame_rate if info.frame_rate > 0 else info.seconds[-1]
            if length > self.limits.clip_seconds:
                raise MediaError(
                    f"{name} is {length:,.0f} s long; {self.limits.clip_seconds:,.0f} s are the most. Cut it."
                )
            if info.width * info.height > self.limits.pixels:
                raise BrokenMedia(name, reason="too many pixels")
            last = max(0, info.frames - 1)
            self._clips.read(str(out), lambda known: [0, last] if last else [0], lambda frames: None)
        except BaseException:
            out.unlink(missing_ok=True)
            raise
        return Shown(
            media=Media(type="video", path=str(out)), name=name, width=info.width, height=info.height, seconds=length
        )


def container(path: Path) -> str:
    """The ending that a clip's first bytes stand for; empty where they are not one of ours.

    FFmpeg goes by content, and some of its formats are playlists that name other files: they must never reach it.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return ".mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return ".mkv"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ".avi"
    return ""
