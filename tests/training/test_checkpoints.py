"""What is written, when, and what of it stays; what a full disk and a scheduler's SIGTERM come to."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl import build
from mmrl.errors import RunError
from mmrl.memory import free_memory_bytes
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.training import saver as saver_module
from mmrl.training.checkpoint import Checkpoint, checkpoints, generators, newest_sound, restore_generators
from mmrl.training.disk import NoRoom
from mmrl.training.interrupt import Terminated
from mmrl.training.loop import Trainer, train
from mmrl.training.saver import Keep, superfluous
from mmrl.training.seal import SEAL, damage, read_seal, seal_folder
from tests import toy
from tests.training.same_checkpoint import assert_same_checkpoint
from tests.training.test_loop import config


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, pictures: list[Path]) -> Iterator[Callable[..., Trainer]]:
    scorers = []
    samples = [toy.choice_sample(f"s{i}", [pictures[i % 2]], answer="AB"[i % 2]) for i in range(4)]

    def trainer(run_dir: Path, **train_keys: Any) -> Trainer:
        settings = config(tmp_path, tiny_folder, **train_keys)
        build.set_up_torch(settings)
        run_dir.mkdir(exist_ok=True)
        scorers.append(build.build_scorer(settings, samples))
        made = build.build_trainer(
            settings,
            run_dir=run_dir,
            model=load_model(str(tiny_folder)),
            train=samples,
            validation=[],
            scorer=scorers[-1],
            progress=SilentProgress(),
        )
        return replace(made, trackers=())

    yield trainer
    for scorer in scorers:
        scorer.close()


def sealed(folder: Path, step: int, **metrics: float) -> Checkpoint:
    (folder / "trainer").mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(range(256)) * step)
    seal_folder(folder, step=step, ranks=1, metrics=metrics, versions={})
    return Checkpoint(step=step, folder=folder)


def test_a_seal_tells_every_kind_of_damage(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "step_000004", 4, loss=0.5).folder
    seal = read_seal(folder)
    assert seal is not None
    assert (seal.step, seal.ranks, seal.metrics, seal.size) == (4, 1, {"loss": 0.5}, 1024)
    assert damage(folder) is None
    whole = (folder / "weights").read_bytes()
    (folder / "weights").write_bytes(whole[:-1])
    assert damage(folder) == "weights has 1,023 bytes instead of 1,024"
    (folder / "weights").write_bytes(whole[:-1] + b"x")
    assert damage(folder) == "weights is not what was written (its SHA-256 differs)"
    (folder / "weights").unlink()
    assert damage(folder) == "weights is missing"
    (folder / SEAL).write_text("{")
    assert damage(folder) == "trainer/manifest.json is missing or unreadable"


def test_damaged_checkpoints_are_told_of_and_set_aside(tmp_path: Path) -> None:
    assert newest_sound(tmp_path, print) is None
    found = [sealed(tmp_path / "checkpoints" / f"step_{step:06d}", step) for step in (1, 2, 3)]
    (found[2].folder / SEAL).unlink()
    (found[1].folder / "weights").write_bytes(b"")
    said: list[str] = []
    assert newest_sound(tmp_path, said.append) == found[0]
    assert len(said) == 2
    assert all("is damaged" in line and "going on from the one before, of step 1" in line for line in said)
    assert [c.step for c in checkpoints(tmp_path)] == [1]
    (found[0].folder / "weights").unlink()
    with pytest.raises(
        RunError, match=r"no checkpoint of this run is whole any more \(step_000001: weights is missing"
    ):
        newest_sound(tmp_path, said.append)
    assert found[0].folder.is_dir()  # nothing is moved where there is nothing to go on from


def test_the_best_stays_beside_the_latest(tmp_path: Path) -> None:
    values = {1: 0.2, 2: 0.9, 3: 0.1, 4: 0.9, 5: 0.5, 6: None}
    found = [
        sealed(tmp_path / f"step_{step:06d}", step, **({} if value is None else {"eval/accuracy": value}))
        for step, value in values.items()
    ]

    def gone(**keys: Any) -> list[int]:
        return [c.step for c in superfluous(found, Keep(**keys))]

    assert gone(last=2) == [1, 2, 3, 4]
    assert gone(last=2, best="eval/accuracy") == [1, 3, 4]
    assert gone(last=1, best="eval/accuracy", best_is="lowest") == [1, 2, 4, 5]
    assert gone(last=1, best="eval/never_logged") == [1, 2, 3, 4, 5]


def test_written_beside_the_training_is_what_waiting_would_have_written(
    make: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, although the weights have changed by the time it is written."""
    held = threading.Event()
    writers: list[str] = []
    write = saver_module._Job.write

    def slow(self: Any, *arguments: Any) -> None:
        writers.append(threading.current_thread().name)
        if threading.current_thread() is not threading.main_thread():
            held.wait(60)
        write(self, *arguments)

    monkeypatch.setattr(saver_module._Job, "write", slow)
    waited = make(tmp_path / "waited", steps=4, keep_checkpoints=9, checkpoints_beside=False)
    train(waited)
    assert writers == ["MainThread", "MainThread"]
    beside = make(tmp_path / "beside", steps=4, keep_checkpoints=9)
    take = beside.sampler.next

    def release_late(count: int) -> Any:
        logged = (beside.run_dir / "metrics.jsonl").read_bytes().splitlines()
        if len(logged) == 3 and not held.is_set():  # the third step has changed the weights
            assert checkpoints(beside.run_dir) == []
            held.set()
        return take(count)

    beside.sampler.next = release_late  # type: ignore[method-assign]
    train(beside)
    assert writers[2:] == ["checkpoint-2", "MainThread"]  # the last one is waited for
    for one, other in zip(checkpoints(waited.run_dir), checkpoints(beside.run_dir), strict=True):
        assert_same_checkpoint(one, other)
        assert damage(other.folder) is None


def test_too_little_memory_for_a_copy_means_waiting(
    make: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert free_memory_bytes() > 2**27  # of this machine, which has some
    monkeypatch.setattr(saver_module, "free_memory_bytes", lambda: 2**20)
    trainer = make(tmp_path / "run", steps=3, checkpoint_every=1)
    monkeypatch.setattr(trainer.backend, "snapshot", lambda: pytest.fail("copied without room"))
    train(trainer)
    assert [c.step for c in checkpoints(trainer.run_dir)] == [2, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many bytes; skipped where this user may not mount one."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("mounting a file system is not permitted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_noticed_before_it_is_written_to(
    make: Callable[..., Trainer], small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    """There is room for one checkpoint of some 23 MiB and the spare, not for the next."""
    disk = small_disk(48 * 2**20)
    trainer = make(disk / "run", steps=3, checkpoint_every=1)
    with pytest.raises(
        NoRoom, match=r"the checkpoint of step 2 needs \d+ MiB.*its last good checkpoint is that of step 1"
    ):
        train(trainer)
    [good] = checkpoints(trainer.run_dir)
    assert damage(good.folder) is None


def test_a_disk_that_fills_up_while_it_is_written_to_costs_only_that_checkpoint(
    make: Callable[..., Trainer],
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights (safetensors), state (torch) and the log: whichever write fails, the reason is the disk."""
    disk = small_disk(40 * 2**20)
    trainer = make(disk / "run", steps=2, checkpoint_every=1)
    monkeypatch.setattr(saver_module, "SPARE_BYTES", -(2**40))  # as if another program were writing at the same time
    with pytest.raises(NoRoom, match=r"is full .*the checkpoint of step 2 could not be written .*--resume"):
        train(trainer)
    [good] = checkpoints(trainer.run_dir)
    assert (good.step, damage(good.folder)) == (1, None)
    assert [path.name for path in good.folder.parent.iterdir()] == ["step_000001"]
    for left in (1_500_000, 0):  # room for a part of the weights; for nothing at all
        again = make(disk / f"run{left}", steps=2, checkpoint_every=1)
        with open(disk / f"other{left}", "wb") as other:
            for _ in range(-(-(_free(disk) - left) // 2**16)):
                try:
                    other.write(bytes(2**16))
                    other.flush()
                except OSError:
                    break
        with pytest.raises(NoRoom, match=r"is full .*it has no checkpoint yet"):
            train(again)
        (disk / f"other{left}").unlink()


def _free(folder: Path) -> int:
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize


def test_sigterm_finishes_the_step_and_leaves_a_checkpoint(make: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer = make(tmp_path / "run", checkpoint_every=100)
    generate = trainer.engine.generate

    def told(*arguments: Any, **keys: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # schedulers send it to every process of a group, some of them twice
        return generate(*arguments, **keys)

    told_trainer = replace(trainer)
    told_trainer.engine.generate = told  # type: ignore[method-assign]
    with pytest.raises(Terminated, match="1 of 4 steps"):
        train(told_trainer)
    [saved] = checkpoints(trainer.run_dir)
    assert (saved.step, damage(saved.folder)) == (1, None)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_generators_go_on_where_they_were() -> None:
    import random

    import numpy as np

    state = generators()
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    restore_generators(state)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == drawn
