"""Media files that change or vanish while a run is using them, named once each.

A run asks a sample again and again. A file of it that was there before and is gone now is the disk's doing, so that the
sample is dropped and the run goes on; one that the run never saw is a defect of the data set, which the renderer
raises. A file that was replaced by another is used as it is now, but told of: what was learnt from it and what will be
are no longer about the same picture, and the run cannot be repeated.

Only this process's own observations count: a resumed run may find its data on another disk, with other times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from mmrl.training.collect import PreparesAhead, Renderer
from mmrl.types import Dropped, Prompt, Sample

VANISHED = "file vanished"
_Stamp = tuple[int, int]  # bytes, time of change in ns


class WatchedFiles:
    """A renderer that looks at the samples' files before it hands them on."""

    def __init__(self, renderer: Renderer, tell: Callable[[str], None]) -> None:
        self._renderer = renderer
        self._tell = tell
        self._seen: dict[str, _Stamp] = {}
        self._told: set[str] = set()

    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        """Prompts of the samples that can be used, in order, and what was dropped and why."""
        there, gone = [], []
        for sample in samples:
            lost = [path for media in sample.media for path in (media.paths or (media.path or "",)) if self._lost(path)]
            if lost:
                gone.append(Dropped(sample_id=sample.id, stage="media", reason=VANISHED, detail=f"{lost[0]} is gone"))
            else:
                there.append(sample)
        prompts, dropped = self._renderer.render(there)
        return prompts, [*gone, *dropped]

    def prepare(self, samples: Sequence[Sample]) -> None:
        """As the renderer's own."""
        if isinstance(self._renderer, PreparesAhead):
            self._renderer.prepare(samples)

    def close(self) -> None:
        """As the renderer's own."""
        if isinstance(self._renderer, PreparesAhead):
            self._renderer.close()

    def _lost(self, path: str) -> bool:
        """Whether a file that was there is gone. Tells of that, and of one that is another now."""
        known = self._seen.get(path)
        try:
            status = os.stat(path)
        except OSError as error:
            if known is not None:
                self._once(path, f"{path} has vanished during the run ({error.strerror}); its samples are dropped")
            return known is not None
        stamp = (status.st_size, status.st_mtime_ns)
        if known is not None and stamp != known:
            self._once(
                path,
                f"{path} has changed during the run ({known[0]:,} bytes of {_when(known)} became {stamp[0]:,} bytes of "
                f"{_when(stamp)}); its samples are no longer what they were",
            )
        self._seen[path] = stamp
        return False

    def _once(self, path: str, text: str) -> None:
        if path not in self._told:
            self._told.add(path)
            self._tell(f"warning: {text}")


def _when(stamp: _Stamp) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp[1] / 1e9))
