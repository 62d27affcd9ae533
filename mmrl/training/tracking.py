"""Metrics in other places than `metrics.jsonl`, each by the tracker's own library.

    tensorboard   runs/<name>/tensorboard/     tensorboard --logdir runs
    wandb         Weights & Biases             an account, or WANDB_MODE=offline
    trackio       a local database, Gradio     trackio show
    mlflow        MLFLOW_TRACKING_URI, else ./mlruns

`metrics.jsonl` is the record; these are views of it. One that fails is told of and left out, and the run goes on. A
resumed run goes on in the same place: TensorBoard hides what was logged after the checkpoint, wandb and MLflow go on
with the run whose id lies in `runs/<name>/tracking.json`, trackio with the run of that name.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmrl.atomic import write_atomically
from mmrl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """What a tracker is told about the run."""

    run_dir: Path
    project: str
    name: str
    settings: Mapping[str, Any]  # the resolved config


class Tracker(Protocol):
    """One place that shows metrics."""

    name: str

    def begin(self, start: int) -> None:
        """Steps from `start` on will be logged; later ones that are there already belong to a run that was killed."""
        ...

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """The finite metrics of a step."""
        ...

    def finish(self) -> None:
        """Everything was logged."""
        ...


class Tracking:
    """All trackers of a run, used as a context. One that raises is told of once and then left out."""

    def __init__(self, trackers: Sequence[Tracker], *, start: int, tell: Callable[[str], None]) -> None:
        self._trackers = list(trackers)
        self._start = start
        self._tell = tell

    def __enter__(self) -> Tracking:
        self._each(lambda tracker: tracker.begin(self._start))
        return self

    def __exit__(self, *_: object) -> None:
        self._each(lambda tracker: tracker.finish())

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """The metrics of a step, to every tracker; what is infinite or not a number is left out."""
        finite = {name: float(value) for name, value in figures.items() if math.isfinite(value)}
        self._each(lambda tracker: tracker.log(step, finite))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except Exception as error:  # a server, a quota, a library: the run does not depend on them
                self._trackers.remove(tracker)
                self._tell(
                    f"warning: {tracker.name} failed and is left out from now on ({type(error).__name__}: {error}); "
                    "metrics.jsonl has everything"
                )


class TensorBoard:
    """Event files that `tensorboard --logdir` reads."""

    name = "tensorboard"

    def __init__(self, run: TrackedRun) -> None:
        self._folder = run.run_dir / "tensorboard"
        self._writer: Any = None

    def begin(self, start: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=start or None)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases."""

    name = "wandb"

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._library: Any = None

    def begin(self, start: int) -> None:
        self._library = importlib.import_module("wandb")
        kept = _remembered(self._run.run_dir, self.name)
        begun = self._library.init(
            project=self._run.project,
            name=self._run.name,
            id=kept,
            resume="allow" if kept else None,
            dir=str(self._run.run_dir),
            config=dict(self._run.settings),
        )
        # Its own step counter only rises: after a resume the steps that are repeated need one of their own.
        self._library.define_metric("step")
        self._library.define_metric("*", step_metric="step")
        _remember(self._run.run_dir, self.name, begun.id)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._library.log({"step": step, **figures})

    def finish(self) -> None:
        self._library.finish()


class Trackio:
    """trackio: a local database with a dashboard."""

    name = "trackio"

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._library: Any = None

    def begin(self, start: int) -> None:
        self._library = importlib.import_module("trackio")
        self._library.init(
            project=self._run.project, name=self._run.name, resume="allow", config=dict(self._run.settings)
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._library.log(dict(figures), step=step)

    def finish(self) -> None:
        self._library.finish()


class MLflow:
    """An MLflow experiment."""

    name = "mlflow"

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._library: Any = None

    def begin(self, start: int) -> None:
        self._library = importlib.import_module("mlflow")
        self._library.set_experiment(self._run.project)
        kept = _remembered(self._run.run_dir, self.name)
        begun = self._library.start_run(run_id=kept) if kept else self._library.start_run(run_name=self._run.name)
        if not kept:
            self._library.log_dict(dict(self._run.settings), "config.json")
        _remember(self._run.run_dir, self.name, begun.info.run_id)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._library.log_metrics(dict(figures), step=step)

    def finish(self) -> None:
        self._library.end_run()


TRACKERS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
    "mlflow": MLflow,
}


def trackers(names: Sequence[str], run: TrackedRun) -> list[Tracker]:
    """The trackers that a config names."""
    return [TRACKERS[name](run) for name in chosen(names)]


def chosen(names: Sequence[str]) -> list[str]:
    """Their names, each once; `auto`: tensorboard if installed. ConfigError says what to install."""
    found: dict[str, None] = {}
    for name in names:
        if name == "auto":
            if _installed("tensorboard"):
                found["tensorboard"] = None
        elif not _installed(name):
            raise ConfigError(
                f'tracking.to: {name} is not installed. Install it (pip install "mmrl[{name}]") or take it out of the '
                "list; metrics.jsonl is written in any case."
            )
        else:
            found[name] = None
    return list(found)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _remembered(run_dir: Path, tracker: str) -> str | None:
    """The id under which an earlier process of this run is known there."""
    path = run_dir / "tracking.json"
    if not path.is_file():
        return None
    known = json.loads(path.read_text()).get(tracker)
    return str(known) if known is not None else None


def _remember(run_dir: Path, tracker: str, id_: str) -> None:
    path = run_dir / "tracking.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    write_atomically(path, json.dumps({**known, tracker: id_}, indent=1).encode())
