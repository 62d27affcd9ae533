"""Writes checkpoints: aside, flushed to the disk, sealed, renamed; then removes those that need not stay.

    ask    is there room on the disk? if not, the run ends here, with what it had
    copy   weights and state, into the processor's memory
    write  in a thread beside the training, where that is safe; else while the training waits

It is safe to write beside the training where a single process holds all weights and has the memory for a second copy
of everything that is saved. It is not where they are spread over several ranks: then gathering them is something that
all ranks do together, and that must not mix with what they say to each other while they train. The last checkpoint of
a run is always waited for.
"""

from __future__ import annotations

import io
import math
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmrl.algorithms.memory import Memory
from mmrl.atomic import flush_folder
from mmrl.backend.backend import TrainBackend
from mmrl.curriculum.sampler import PromptSampler
from mmrl.errors import RunError
from mmrl.memory import free_memory_bytes
from mmrl.ranks import ALONE, Ranks
from mmrl.training.checkpoint import (
    Checkpoint,
    checkpoints,
    generators,
    last_good,
    package_versions,
    policy_state,
    rank_file,
)
from mmrl.training.disk import SPARE_BYTES, NoRoom, free_bytes, full_disk, means_full
from mmrl.training.in_flight import InFlight
from mmrl.training.seal import seal_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Which checkpoints stay on disk."""

    last: int  # so many of the newest
    best: str | None = None  # and the one whose step logged the best value of this metric; None: no such
    best_is: Literal["highest", "lowest"] = "highest"


class CheckpointSaver:
    """Writes the checkpoints of one run. Use as a context: leaving it waits for what is still being written."""

    def __init__(self, run_dir: Path, keep: Keep, *, beside: bool, ranks: Ranks = ALONE) -> None:
        """`beside`: write beside the training where that is safe."""
        self._run_dir = run_dir
        self._keep = keep
        self._beside = beside
        self._ranks = ranks
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> CheckpointSaver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def save(
        self,
        *,
        step: int,
        backend: TrainBackend,
        sampler: PromptSampler,
        memory: Memory,
        in_flight: InFlight,
        metrics: dict[str, float],
        wait: bool,
    ) -> None:
        """Save what is true after `step` steps, the last of which logged `metrics`. Every rank must call it.

        `wait`: return when it is on disk. Raises NoRoom where the disk is full, now or, for one that was written beside
        the training, at the next call.
        """
        self.wait()
        state = policy_state(backend, sampler, memory, in_flight, step=step)
        size = backend.model_bytes() + tensor_bytes(state)
        self._check_disk(step, size)
        job = _Job(self._run_dir, self._keep, self._ranks, step=step, metrics=_finite(metrics))
        write_model = None if wait or not self._safe_beside(size) else backend.snapshot()
        if write_model is None:
            job.write(backend.save_model, state, generators())
            return
        copy, random_state = copied(state), generators()

        def work() -> None:
            try:
                job.write(write_model, copy, random_state)
            except BaseException as error:  # raised again in the thread that trains
                self._failure = error

        self._thread = threading.Thread(target=work, name=f"checkpoint-{step}")
        self._thread.start()

    def _safe_beside(self, size: int) -> bool:
        return self._beside and not self._ranks.several and size * 1.2 < free_memory_bytes()

    def _check_disk(self, step: int, size: int) -> None:
        free = free_bytes(self._run_dir)
        needed = size + SPARE_BYTES
        if any(self._ranks.gather(self._ranks.first and free < needed)):
            what = f"the checkpoint of step {step} needs {needed / 2**20:,.0f} MiB"
            raise NoRoom(full_disk(self._run_dir, what=what, last_good=last_good(self._run_dir)))


class _Job:
    """Making one folder."""

    def __init__(self, run_dir: Path, keep: Keep, ranks: Ranks, *, step: int, metrics: dict[str, float]) -> None:
        self._run_dir, self._keep, self._ranks, self._step, self._metrics = run_dir, keep, ranks, step, metrics
        self._folder = run_dir / "checkpoints" / f"step_{step:06d}"
        self._aside = self._folder.with_name(f".{self._folder.name}.partial")

    def write(self, write_model: Callable[[Path], None], state: dict[str, Any], random_state: dict[str, Any]) -> None:
        first = self._ranks.first
        self._together(self._begin if first else None)
        # All ranks write the model, which is something they do together: a rank that fails there ends the others by
        # its absence.
        self._together(lambda: write_model(self._aside))
        self._together(lambda: _write(state, self._aside / "trainer" / "state.pt") if first else None)
        self._together(lambda: _write(random_state, self._aside / "trainer" / rank_file(self._ranks.rank)))
        self._together(self._finish if first else None)

    def _together(self, work: Callable[[], None] | None) -> None:
        """Every rank does its part; where one fails, all say so, and what was written is removed."""
        failure: Exception | None = None
        try:
            if work is not None:
                work()
        except Exception as error:
            failure = error
        told = self._ranks.gather(None if failure is None else f"{type(failure).__name__}: {failure}")
        words = next((text for text in told if text is not None), None)
        if words is not None:
            raise self._failed(failure or RunError(words)) from failure

    def _begin(self) -> None:
        self._clear()
        (self._aside / "trainer").mkdir(parents=True)

    def _finish(self) -> None:
        seal_folder(
            self._aside,
            step=self._step,
            ranks=self._ranks.count,
            metrics=self._metrics,
            versions=package_versions(),
        )
        if self._folder.exists():
            _remove(self._folder)
        self._aside.rename(self._folder)
        flush_folder(self._folder.parent)
        for old in superfluous(checkpoints(self._run_dir), self._keep):
            _remove(old.folder)

    def _clear(self) -> None:
        """What a process that was killed left half written or half removed."""
        for left in [*self._folder.parent.glob(".step_*.partial"), *self._folder.parent.glob(".step_*.removing")]:
            shutil.rmtree(left)

    def _failed(self, error: Exception) -> RunError:
        full = means_full(error, self._run_dir)
        what = f"the checkpoint of step {self._step} could not be written ({str(error).splitlines()[0]})"
        if self._ranks.first:
            shutil.rmtree(self._aside, ignore_errors=True)
        good = last_good(self._run_dir)
        if full:
            return NoRoom(full_disk(self._run_dir, what=what, last_good=good))
        return RunError(f"{self._run_dir}: {what}. The run ended; {good}. --resume goes on from there.")


def superfluous(found: list[Checkpoint], keep: Keep) -> list[Checkpoint]:
    """Those of `found`, oldest first, that need not stay. The best is the earliest where several are equally good."""
    staying = {c.step for c in found[-keep.last :]} | {best_of(found, keep)}
    return [c for c in found if c.step not in staying]


def best_of(found: list[Checkpoint], keep: Keep) -> int | None:
    """The step of the best checkpoint by `keep`; None where it asks for none, or none logged that metric."""
    if keep.best is None:
        return None
    sign = 1 if keep.best_is == "highest" else -1
    values = {c.step: seal.metrics[keep.best] for c in found if (seal := c.seal) and keep.best in seal.metrics}
    return max(values, key=lambda step: (sign * values[step], -step), default=None)


def copied(value: Any) -> Any:
    """The same values in memory of their own, tensors on the processor."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value


def tensor_bytes(value: Any) -> int:
    """Memory that the tensors in a nest of dicts and lists take."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(tensor_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(tensor_bytes(item) for item in value)
    return 0


class _Honest(io.FileIO):
    """A file that keeps the system's error: torch replaces it by one of its own that does not say the disk is full."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.failure = error
            raise


def _write(state: dict[str, Any], path: Path) -> None:
    with _Honest(path, "xb") as raw:
        try:
            with io.BufferedWriter(raw) as file:
                torch.save(state, file)
        except Exception as error:
            raise raw.failure or error from error


def _remove(folder: Path) -> None:
    """First out of its place, so that a kill in the middle leaves no half of a checkpoint there."""
    going = folder.with_name(f".{folder.name}.removing")
    shutil.rmtree(going, ignore_errors=True)
    folder.rename(going)
    shutil.rmtree(going)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
