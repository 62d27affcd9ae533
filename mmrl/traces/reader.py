"""Reads the trace of a run, also while the run goes on. Nothing is cached: every call sees what is on disk now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmrl.errors import RunError
from mmrl.traces.codec import decode
from mmrl.traces.record import TraceDrop, TraceGroup, TraceStep
from mmrl.traces.writer import step_files, step_path

Keep = Callable[[dict[str, Any]], bool]  # looks at a line's JSON before it is made into a record


class TraceReader:
    """The traces of one run folder (`runs/<name>`): every rollout, or with `folder` those of skipped updates."""

    def __init__(self, run_dir: Path, *, folder: str = "traces") -> None:
        if not run_dir.is_dir():
            raise RunError(
                f"{run_dir}: there is no such run folder. Give the folder that holds config.yaml and traces/."
            )
        self._folder = run_dir / folder

    def steps(self) -> list[int]:
        """The steps on disk, ascending; none while the run has not finished its first one."""
        return list(step_files(self._folder)) if self._folder.is_dir() else []

    def read(self, step: int) -> TraceStep:
        """Everything of one step."""
        try:
            records = list(_records(step_path(self._folder, step)))
        except FileNotFoundError:
            steps = self.steps()
            have = f"The run has steps {steps[0]} to {steps[-1]}" if steps else "The run has no traces yet"
            raise RunError(f"{self._folder}: no trace of step {step}. {have}.") from None
        return TraceStep(
            step=step,
            groups=tuple(record for record in records if isinstance(record, TraceGroup)),
            dropped=tuple(record.dropped for record in records if isinstance(record, TraceDrop)),
        )

    def groups(
        self,
        *,
        first: int = 0,
        last: int | None = None,
        task: str | None = None,
        sample_id: str | None = None,
        predicate: Callable[[TraceGroup], bool] | None = None,
    ) -> Iterator[TraceGroup]:
        """Groups of steps `first` … `last` (both included; None: to the end), one at a time, in order of step.

        Groups that a filter dropped are among them (`group.dropped` says why).
        """

        def keep(line: dict[str, Any]) -> bool:
            if line["kind"] != "group":
                return False
            sample = line["sample"]
            return (task is None or sample["task"] == task) and (sample_id is None or sample["id"] == sample_id)

        for record in self._stream(first, last, keep):
            if isinstance(record, TraceGroup) and (predicate is None or predicate(record)):
                yield record

    def drops(self, *, first: int = 0, last: int | None = None) -> Iterator[TraceDrop]:
        """Samples of steps `first` … `last` that never became a scored group, in order of step."""
        for record in self._stream(first, last, lambda line: bool(line["kind"] == "drop")):
            if isinstance(record, TraceDrop):
                yield record

    def _stream(self, first: int, last: int | None, keep: Keep) -> Iterator[TraceGroup | TraceDrop]:
        for step in self.steps():
            if step < first or (last is not None and step > last):
                continue
            try:
                yield from _records(step_path(self._folder, step), keep)
            except FileNotFoundError:  # the run was resumed from an earlier step since we looked
                continue


def _records(path: Path, keep: Keep = lambda line: True) -> Iterator[TraceGroup | TraceDrop]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = json.loads(raw)
                if keep(line):
                    yield decode(line)
            except (ValueError, KeyError, TypeError) as error:
                if not raw.endswith(b"\n"):
                    return  # the copy or the writing of this file has not got further yet
                raise RunError(
                    f"{path}:{number}: this line is no trace of a group ({type(error).__name__}: {error}). The file "
                    f"was damaged after it was written; remove the line (or the file) to read the others."
                ) from error
