"""kill -9 at twenty random moments, also while a checkpoint is being written: nothing of a run is lost or changed."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.training.checkpoint import Checkpoint, checkpoints
from mmrl.training.metrics import read_metrics, reproducible
from mmrl.training.seal import damage
from tests import toy
from tests.training.killed_run import PRELOADED, STEPS, go, write_config

KILLS = 20
INSIDE_A_WRITE = 6  # of them while a checkpoint is being written


@pytest.fixture(scope="module")
def context() -> Any:
    """Processes are forked from one that has imported everything, so that each of them starts at once."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(PRELOADED)
    return forkserver


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    return write_config(folder, toy.noise_pictures(folder, [(56, 56), (84, 56)]))


@pytest.fixture(scope="module")
def straight(context: Any, config: Path) -> tuple[Path, float]:
    """The uninterrupted run, and how many seconds its steps took."""
    folder = config.parent / "straight"
    folder.mkdir()
    for _ in range(2):  # the second time nothing is imported any more: its time is what matters
        shutil.rmtree(folder / "tiny", ignore_errors=True)
        began = time.monotonic()
        process = started(context, config, folder)
        process.join(120)
        assert process.exitcode == 0, (folder / "said.txt").read_text()
    return folder / "tiny", time.monotonic() - began


def started(context: Any, config: Path, folder: Path, **more: Any) -> BaseProcess:
    process: BaseProcess = context.Process(target=go, args=(config, folder), kwargs=more)
    process.start()
    return process


def rows(run_dir: Path) -> list[dict[str, float]]:
    return [reproducible(row) for row in read_metrics(run_dir / "metrics.jsonl")]


def traced(run_dir: Path) -> list[Any]:
    lines = [
        json.loads(line)
        for path in sorted((run_dir / "traces").glob("step_*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    for line in lines:
        for rollout in line.get("rollouts", []):
            for result in rollout["rewards"].values():
                result.pop("seconds")
    return lines


def assert_same_run(run_dir: Path, straight: Path) -> None:
    assert rows(run_dir) == rows(straight)
    assert traced(run_dir) == traced(straight)
    mine, theirs = (checkpoints(folder)[-1] for folder in (run_dir, straight))
    assert mine.step == theirs.step == STEPS
    assert mine.seal is not None
    assert theirs.seal is not None
    assert {**mine.seal.files, **pickled(theirs)} == theirs.seal.files  # sizes and SHA-256: weights and all else
    for name in pickled(mine):  # the same values can be pickled in more than one way
        assert_same(*(torch.load(c.folder / name, weights_only=True) for c in (mine, theirs)))


def pickled(checkpoint: Checkpoint) -> dict[str, tuple[int, str]]:
    """Optimiser, reference, sampler, adaptive parts; the random number generators."""
    assert checkpoint.seal is not None
    return {name: entry for name, entry in checkpoint.seal.files.items() if name.endswith(".pt")}


def assert_same(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs)
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs)
    elif isinstance(mine, dict):
        assert list(mine) == list(theirs)
        for key in mine:
            assert_same(mine[key], theirs[key])
    elif isinstance(mine, list | tuple):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            assert_same(one, other)
    else:
        assert mine == theirs


def writing(run_dir: Path) -> bool:
    return any((run_dir / "checkpoints").glob(".step_*"))


@pytest.mark.slow
def test_twenty_kills_change_nothing(context: Any, config: Path, straight: tuple[Path, float]) -> None:
    expected, seconds = straight
    moments = random.Random(7)
    kills, inside, finished, number = 0, 0, 0, 0
    while kills < KILLS:
        folder = config.parent / f"killed-{number}"
        folder.mkdir()
        number += 1
        while True:
            process = started(context, config, folder)
            aim_at_a_write = inside < INSIDE_A_WRITE and kills % 2 == 1
            deadline = time.monotonic() + (60 if aim_at_a_write else moments.uniform(0.1, 1.0) * seconds)
            while process.is_alive() and time.monotonic() < deadline:
                if aim_at_a_write and writing(folder / "tiny"):
                    time.sleep(moments.uniform(0.0, 0.02))
                    break
                time.sleep(0.001)
            if kills == KILLS:
                process.join(120)
            alive = process.is_alive()
            process.kill()
            process.join()
            if not alive:
                break
            kills += 1
            inside += writing(folder / "tiny")
            assert all(damage(found.folder) is None for found in checkpoints(folder / "tiny"))
        assert process.exitcode == 0, (folder / "said.txt").read_text()
        finished += 1
        assert_same_run(folder / "tiny", expected)
    assert inside >= INSIDE_A_WRITE - 2, f"only {inside} of {kills} kills fell inside the writing of a checkpoint"


KINDS = [
    pytest.param("model.safetensors", b"changed", id="weights changed"),
    pytest.param("trainer/state.pt", None, id="state cut off"),
    pytest.param("trainer/manifest.json", b'{"format": 1, "files"', id="manifest half written"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "content"), KINDS)
def test_a_damaged_checkpoint_is_recognised_and_the_one_before_is_used(
    context: Any, config: Path, straight: tuple[Path, float], tmp_path: Path, file: str, content: bytes | None
) -> None:
    expected, _ = straight
    shutil.copytree(expected, tmp_path / "tiny")
    last = checkpoints(tmp_path / "tiny")[-1].folder
    path = last / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else whole[: -len(content)] + content)
    process = started(context, config, tmp_path)
    process.join(120)
    said = (tmp_path / "said.txt").read_text()
    assert process.exitcode == 0, said
    assert f"warning: the checkpoint {last} is damaged" in said
    assert f"going on from the one before, of step {STEPS - 2}" in said
    assert last.with_name(f"{last.name}.damaged").is_dir()
    assert_same_run(tmp_path / "tiny", expected)


@pytest.mark.slow
def test_a_limit_on_files_ends_the_run_at_its_last_good_checkpoint(
    context: Any, config: Path, straight: tuple[Path, float], tmp_path: Path
) -> None:
    """A real limit of the system's, which strikes inside the writing of a checkpoint; without it the run goes on."""
    expected, _ = straight
    largest = max(file.stat().st_size for file in expected.rglob("*") if file.is_file())
    process = started(context, config, tmp_path, largest_file=largest * 2 // 3)
    process.join(120)
    said = (tmp_path / "said.txt").read_text()
    assert process.exitcode == 2, said
    assert "error: the disk that holds" in said
    assert "is full" in said
    assert "--resume" in said
    assert not writing(tmp_path / "tiny")
    process = started(context, config, tmp_path)
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "said.txt").read_text()
    assert_same_run(tmp_path / "tiny", expected)
