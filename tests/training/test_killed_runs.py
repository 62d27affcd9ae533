"""kill -9 at twenty random moments, also while a checkpoint is being written: nothing of a run is lost or changed."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from mmrl.training.checkpoint import checkpoints
from mmrl.training.metrics import read_metrics
from mmrl.training.seal import damage
from tests import toy
from tests.training.killed_run import PRELOADED, STEPS, command, go, write_config
from tests.training.same_checkpoint import assert_same_checkpoint
from tests.training.same_run import rows, traced

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


def assert_same_run(run_dir: Path, straight: Path) -> None:
    assert rows(run_dir) == rows(straight)
    assert traced(run_dir) == traced(straight)
    mine, theirs = (checkpoints(folder)[-1] for folder in (run_dir, straight))
    assert mine.step == theirs.step == STEPS
    assert_same_checkpoint(mine, theirs)


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


@pytest.mark.slow
def test_sigterm_exits_with_0_and_the_run_goes_on(
    context: Any, config: Path, straight: tuple[Path, float], tmp_path: Path
) -> None:
    """As a scheduler sends it to take the machine back: in the loop, and before it has begun."""
    expected, _ = straight
    arguments = ["train", str(config), f"run.folder={tmp_path}", "--quiet"]
    log = tmp_path / "tiny" / "metrics.jsonl"
    for number, moment in enumerate((tmp_path / "tiny" / "config.yaml", log)):
        process: BaseProcess = context.Process(
            target=command, args=([*arguments, *(["--resume"] if number else [])], tmp_path)
        )
        process.start()
        while process.is_alive() and not (moment.is_file() and moment.stat().st_size):
            time.sleep(0.001)
        process.terminate()
        process.join(120)
        said = (tmp_path / "said.txt").read_text()
        assert process.exitcode == 0, said
        assert "Ended by SIGTERM" in said
        assert said.rstrip().endswith("--resume")
        assert "Traceback" not in said
    steps = len(read_metrics(log))
    assert 0 < steps < STEPS
    assert [found.step for found in checkpoints(tmp_path / "tiny")][-1] == steps
    process = context.Process(target=command, args=([*arguments, "--resume"], tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "said.txt").read_text()
    assert rows(tmp_path / "tiny") == rows(expected)
    assert_same_checkpoint(checkpoints(tmp_path / "tiny")[-1], checkpoints(expected)[-1])
