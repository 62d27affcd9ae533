"""Clips → frames, decoded in a process of their own that is killed when it is late or too large.

Decoders hang, crash and leak on some files. So decoding happens in a child process (`video_worker.py`): past its
deadline or its memory cap it is killed, the clip is tried with the next reader, and the next clip gets a new process.
decord reads; where it cannot, or is known to return other frames than asked, PyAV does, and that is recorded.

    file missing                → DataError: the data set lacks something it names; the run stops
    file there, but unusable    → BrokenMedia: its samples are dropped with the reason; the run goes on
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mmrl.child import Child, exit_text
from mmrl.data.images import MAX_ASPECT, MAX_PIXELS, BrokenMedia, check_file
from mmrl.data.images import REASONS as FILE_REASONS
from mmrl.data.video_info import REASONS, ClipInfo, ClipTrouble, Decode, Inspect, Trouble
from mmrl.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

READERS = {  # name → "module:function", in the order they are tried
    "decord": "mmrl.data.video_readers:decord_frames",
    "pyav": "mmrl.data.video_readers:pyav_frames",
}
DEADLINE_SECONDS = 60.0
MEMORY_BYTES = 4 * 2**30
START_SECONDS = 60.0  # the process imports its libraries in a second; a busy machine takes longer
_LOOK_SECONDS = 0.02  # between two looks at the process's memory


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedClip(Generic[T]):
    """Some frames of a clip."""

    info: ClipInfo
    frames: tuple[int, ...]  # their numbers
    pieces: list[T]  # what `keep` made of [n, height, width, 3] uint8 arrays, in order
    reader: str  # a key of READERS
    reader_note: str  # why readers before it did not serve; empty: it was the first


class _Gone(Exception):
    """The process was killed, or ended by itself."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ClipReader:
    """Reads clips one at a time, from whichever thread asks. The process starts with the first clip."""

    def __init__(
        self,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        readers: dict[str, str] | None = None,
    ) -> None:
        """`deadline_seconds`: of one reader on one clip. `memory_bytes`: resident memory of the process."""
        self._deadline = deadline_seconds
        self._memory = memory_bytes
        self._readers = READERS if readers is None else readers
        self._child: Child | None = None
        self._lock = threading.Lock()

    def inspect(self, path: str) -> ClipInfo:
        """What the clip's packets say. Raises DataError or BrokenMedia."""
        with self._lock:
            return self._inspect(path)

    def read(
        self,
        path: str,
        choose: Callable[[ClipInfo], Sequence[int]],
        keep: Callable[[NDArray[np.uint8]], T],
    ) -> DecodedClip[T]:
        """The frames that `choose` names (ascending numbers), handed to `keep` a few at a time, so that they can be
        made smaller before the next ones come. Raises DataError or BrokenMedia; ClipTrouble of `choose` becomes one.
        """
        with self._lock:
            info = self._inspect(path)
            try:
                frames = tuple(choose(info))
            except ClipTrouble as error:
                raise broken_clip(path, error.reason, str(error)) from error
            failures: list[tuple[str, str, str]] = []
            for name, reader in self._readers.items():
                try:
                    pieces = self._decode(path, reader, info, frames, keep)
                except (ClipTrouble, _Gone) as error:
                    failures.append((name, error.reason, str(error)))
                    continue
                note = "; ".join(f"{failed}: {message}" for failed, _, message in failures)
                return DecodedClip(info=info, frames=frames, pieces=pieces, reader=name, reader_note=note)
        said = "; ".join(f"{name}: {message}" for name, _, message in failures)
        raise broken_clip(path, failures[-1][1], f"cannot be read ({said})")

    def close(self) -> None:
        """End the process. The reader can be used again."""
        with self._lock:
            self._drop_child()

    @property
    def process_id(self) -> int | None:
        """Of the process that exists now."""
        return None if self._child is None else self._child.process.pid

    def _inspect(self, path: str) -> ClipInfo:
        check_file(path, what="clip")
        try:
            child = self._started()
            child.connection.send(Inspect(path=path, deadline_seconds=self._deadline))
            info = self._receive(child, time.monotonic() + self._deadline)
        except _Gone as error:
            raise broken_clip(path, error.reason, str(error)) from error
        except ClipTrouble as error:
            raise broken_clip(path, error.reason, str(error)) from error
        assert isinstance(info, ClipInfo)
        if info.width < 1 or info.height < 1:
            raise broken_clip(path, "corrupt video", f"says its frames have {info.width}×{info.height} pixels")
        if info.width * info.height > MAX_PIXELS:
            raise broken_clip(path, "too many pixels", f"has frames of {info.width}×{info.height} pixels")
        if max(info.width, info.height) > MAX_ASPECT * min(info.width, info.height):
            raise broken_clip(path, "extreme aspect ratio", f"has frames of {info.width}×{info.height} pixels")
        return info

    def _decode(
        self, path: str, reader: str, info: ClipInfo, frames: Sequence[int], keep: Callable[[NDArray[np.uint8]], T]
    ) -> list[T]:
        child = self._started()
        child.connection.send(
            Decode(path=path, reader=reader, info=info, frames=tuple(frames), deadline_seconds=self._deadline)
        )
        kept: list[T] = []
        deadline = time.monotonic() + self._deadline
        while (piece := self._receive(child, deadline)) is not None:
            received = time.monotonic()
            kept.append(keep(piece))
            deadline += time.monotonic() - received  # what we do with the frames is not the decoder's time
        return kept

    def _receive(self, child: Child, deadline: float) -> Any:
        """The next answer. Raises ClipTrouble where it says so, _Gone where there is no process any more."""
        while not child.connection.poll(_LOOK_SECONDS):
            if time.monotonic() >= deadline:
                self._drop_child()
                raise _Gone("decoding timed out", f"was not decoded within {self._deadline:g} s")
            self._check_memory(child)
        try:
            answer = child.connection.recv()
        except (EOFError, OSError):
            code = self._drop_child()
            raise _Gone("decoder crashed", f"made the decoder end ({exit_text(code)})") from None
        if isinstance(answer, Trouble):
            raise ClipTrouble(answer.reason, answer.message)
        return answer

    def _check_memory(self, child: Child) -> None:
        held = child.resident_bytes()
        if held > self._memory:
            self._drop_child()
            raise _Gone(
                "decoding took too much memory",
                f"took {held / 2**20:,.0f} MiB to decode; the limit is {self._memory / 2**20:,.0f} MiB",
            )

    def _started(self) -> Child:
        """The process; a new one where there is none, or where the last clips left half of its memory in use."""
        if self._child is not None and (
            self._child.process.poll() is not None or self._child.resident_bytes() > self._memory / 2
        ):
            self._drop_child()
        if self._child is None:
            self._child = Child("mmrl.data.video_worker:serve")
            if not self._child.connection.poll(START_SECONDS):
                self._drop_child()
                raise RunError(f"the process that decodes video did not start within {START_SECONDS:g} seconds.")
            try:
                self._child.connection.recv()
            except (EOFError, OSError):
                code = self._drop_child()
                raise RunError(
                    f"the process that decodes video ended while it started ({exit_text(code)}). Its own message "
                    f"stands above this one; PyAV (av) must be installed."
                ) from None
        return self._child

    def _drop_child(self) -> int:
        child, self._child = self._child, None
        return 0 if child is None else child.kill()


def broken_clip(path: str, reason: str, what: str) -> BrokenMedia:
    """The error for a clip that is there and cannot be used."""
    advice = REASONS.get(reason) or FILE_REASONS[reason]
    return BrokenMedia(f"{os.fspath(path)} {what}. Its samples are dropped; {advice}.", reason=reason)
