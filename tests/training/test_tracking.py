"""Metrics reach other places through their own libraries, and a run never depends on them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmrl.config.load import load_config
from mmrl.errors import ConfigError
from mmrl.pipeline import run_pipeline, train_stage
from mmrl.progress import SilentProgress
from mmrl.training.tracking import TRACKERS, TrackedRun, Tracker, Tracking, trackers
from tests.training.killed_run import write_config


def run(folder: Path) -> TrackedRun:
    return TrackedRun(run_dir=folder, project="mmrl-tests", name="one", settings={"train": {"steps": 3}})


def test_tensorboard_is_the_default_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [tracker.name for tracker in trackers(("auto",), run(tmp_path))] == ["tensorboard"]
    assert [tracker.name for tracker in trackers(("auto", "tensorboard"), run(tmp_path))] == ["tensorboard"]
    assert trackers((), run(tmp_path)) == []
    monkeypatch.setattr("mmrl.training.tracking._installed", lambda package: False)
    assert trackers(("auto",), run(tmp_path)) == []


@pytest.mark.parametrize("name", list(TRACKERS))
def test_one_that_is_not_installed_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmrl.training.tracking._installed", lambda package: False)
    with pytest.raises(ConfigError, match=rf"tracking.to: {name} is not installed.*mmrl\[{name}\]"):
        trackers((name,), run(tmp_path))


def test_a_run_does_not_begin_without_its_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after its data were built, and nothing is in the way of the next try."""
    monkeypatch.setattr("mmrl.training.tracking._installed", lambda package: False)
    config = load_config(
        write_config(tmp_path, [Path("unused")] * 2), [f"run.folder={tmp_path / 'runs'}", "tracking.to=[wandb]"]
    )
    for begin in (run_pipeline, train_stage):
        with pytest.raises(ConfigError, match="wandb is not installed"):
            begin(config, resume=False, overwrite=False, progress=SilentProgress())
    assert not (tmp_path / "runs").exists()


def test_tensorboard_shows_a_resumed_run_as_one(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    said: list[str] = []
    for start, steps, value in ((0, range(4), 1.0), (2, range(2, 5), 2.0)):  # killed after step 3, resumed from 2
        with Tracking(trackers(("tensorboard",), run(tmp_path)), start=start, tell=said.append) as tracking:
            for step in steps:
                tracking.log(step, {"reward/total_mean": value + step, "loss/total": math.nan})
    assert said == []
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert shown.Tags()["scalars"] == ["reward/total_mean"]
    assert [(e.step, e.value) for e in shown.Scalars("reward/total_mean")] == [
        (0, 1.0),
        (1, 2.0),
        (2, 4.0),
        (3, 5.0),
        (4, 6.0),
    ]


class Fails:
    """A tracker whose server goes away."""

    name = "fails"

    def __init__(self, at: str) -> None:
        self.at = at
        self.calls: list[str] = []

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if what == self.at:
            raise ConnectionError("no route to host")

    def begin(self, start: int) -> None:
        self._called("begin")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._called(f"log {step}")

    def finish(self) -> None:
        self._called("finish")


@pytest.mark.parametrize(("at", "made"), [("begin", 1), ("log 1", 3), ("finish", 5)])
def test_a_tracker_that_fails_is_told_of_once_and_left_out(at: str, made: int) -> None:
    said: list[str] = []
    failing, sound = Fails(at), Fails("never")
    both: list[Tracker] = [failing, sound]
    with Tracking(both, start=0, tell=said.append) as tracking:
        for step in range(3):
            tracking.log(step, {})
    assert len(failing.calls) == made
    assert len(sound.calls) == 5
    [line] = said
    assert "fails failed and is left out" in line
    assert "no route to host" in line


WITH_LIBRARY = """
import sys
from pathlib import Path
from mmrl.training.tracking import TrackedRun, Tracking, trackers

name, folder = sys.argv[1], Path(sys.argv[2])
run = TrackedRun(run_dir=folder, project="mmrl-tests", name="one", settings={"train": {"steps": 3}})
for start, steps in ((0, range(3)), (2, range(2, 5))):
    with Tracking(trackers((name,), run), start=start, tell=lambda text: sys.exit(text)) as tracking:
        for step in steps:
            tracking.log(step, {"reward/total_mean": 0.5 * step})
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_other_libraries_take_a_run_and_its_resumption_without_a_network(name: str, tmp_path: Path) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    home = {
        "HOME": str(tmp_path),
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITH_LIBRARY, name, str(tmp_path)],
        env={**os.environ, **home},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if name == "trackio":
        import sqlite3

        [database] = (tmp_path / "trackio").glob("mmrl-tests*.db")
        with sqlite3.connect(database) as connection:
            rows = connection.execute("SELECT run_name, step FROM metrics ORDER BY id").fetchall()
        assert {row[0] for row in rows} == {"one"}
        assert [row[1] for row in rows] == [0, 1, 2, 2, 3, 4]
    else:
        assert (tmp_path / "tracking.json").is_file()
