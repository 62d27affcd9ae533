"""Each check tells good from bad."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmrl.data.video_readers import pyav_frames
from mmrl.doctor import backends, disk, engines, gpus, imports, machine, tiny, versions, video
from mmrl.doctor.catalog import BASE, OPTIONAL
from mmrl.doctor.finding import Asked, Verdict

ASKED = Asked(device="cpu")


class TestMachine:
    def test_the_narrowest_quota_of_the_control_groups_counts(self, tmp_path: Path) -> None:
        inner = tmp_path / "sys/fs/cgroup/job/step"
        inner.mkdir(parents=True)
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("0::/job/step\n")
        assert machine.cpu_quota(tmp_path) is None
        (inner / "cpu.max").write_text("max 100000\n")
        assert machine.cpu_quota(tmp_path) is None
        (inner / "cpu.max").write_text("400000 100000\n")
        assert machine.cpu_quota(tmp_path) == 4.0
        (inner.parent / "cpu.max").write_text("150000 100000\n")
        assert machine.cpu_quota(tmp_path) == 1.5

    def test_old_control_groups_are_read_too(self, tmp_path: Path) -> None:
        top = tmp_path / "sys/fs/cgroup/cpu"
        top.mkdir(parents=True)
        (top / "cpu.cfs_quota_us").write_text("-1")
        (top / "cpu.cfs_period_us").write_text("100000")
        assert machine.cpu_quota(tmp_path) is None
        (top / "cpu.cfs_quota_us").write_text("400000")
        assert machine.cpu_quota(tmp_path) == 4.0

    def test_more_threads_than_cores_are_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert machine.look("processor", ASKED).verdict is Verdict.OK
        monkeypatch.setenv("OMP_NUM_THREADS", "4096")
        found = machine.look("processor", ASKED)
        assert found.verdict is Verdict.WARNING
        assert "set OMP_NUM_THREADS=" in found.advice

    @pytest.mark.parametrize(
        ("free", "verdict"), [(2**30, Verdict.FAILED), (4 * 2**30, Verdict.WARNING), (2**34, Verdict.OK)]
    )
    def test_memory_that_is_left_decides(self, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
        monkeypatch.setattr(machine, "free_memory_bytes", lambda: free)
        found = machine.look("memory", ASKED)
        assert found.verdict is verdict
        assert bool(found.advice) == (verdict is not Verdict.OK)


class TestVersions:
    def test_a_package_that_is_too_old_or_missing_is_named(self) -> None:
        missing, _ = versions.compared(["numpy>=99", "no-such-package>=1", "pyyaml>=6.0", "numpy>=99; extra == 'x'"])
        assert missing == [f"numpy is {np.__version__}, mmrl needs >=99", "no-such-package is not installed"]

    def test_what_an_installed_package_wants_otherwise_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Odd:
            version, requires = "1.2", ("numpy<1", "not-there>3", "torch==2.13.0+cpu; python_version > '3'")

        real = versions._installed
        monkeypatch.setattr(versions, "_installed", lambda name: Odd() if name == "odd" else real(name))
        monkeypatch.setattr(versions, "STACK", ("odd",))
        _, clashes = versions.compared([])
        numbers = [f"odd 1.2 needs numpy<1, there is {np.__version__}"]
        assert [clash for clash in clashes if clash.startswith("odd")] == numbers  # torch's build is not told apart

    def test_what_the_tests_run_with_fits(self) -> None:
        assert versions.look("versions", ASKED).verdict is Verdict.OK


class TestImports:
    def test_what_every_run_imports_may_not_be_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imports, "find_spec", lambda name: None)
        for part in BASE:
            found = imports.look(part, ASKED)
            assert (found.verdict, found.detail) == (Verdict.FAILED, "not installed")
            assert "pip install" in found.advice
        assert {imports.look(part, ASKED).verdict for part in OPTIONAL} == {Verdict.SKIPPED}

    def test_what_is_there_is_told_with_its_version(self) -> None:
        assert imports.look("import numpy", ASKED).detail == f"numpy {np.__version__}"


class TestDisk:
    def test_a_folder_that_does_not_exist_yet_is_looked_for_above(self, tmp_path: Path) -> None:
        found = disk.look("disk", Asked(folder=str(tmp_path / "new" / "runs")))
        assert str(tmp_path) in found.detail
        assert found.figures["write_mib_per_second"] > 0
        assert found.figures["sync_seconds"] > 0
        assert list(tmp_path.iterdir()) == []  # nothing is left behind

    def test_no_room_and_no_permission_are_failures(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(disk, "free_bytes", lambda place: 2**20)
        assert disk.look("disk", Asked(folder=str(tmp_path))).verdict is Verdict.FAILED
        monkeypatch.undo()
        if os.geteuid() == 0:
            found = disk.look("disk", Asked(folder="/proc"))
        else:
            found = disk.look("disk", Asked(folder="/"))
        assert found.verdict is Verdict.FAILED
        assert "run.folder" in found.advice


class TestGpus:
    def test_what_the_driver_lists(self) -> None:
        listed = "NVIDIA H100, 580.1, 81559, 81000, 9.0, Disabled\nNVIDIA A30, 580.1, 24576, [N/A], 8.0, Enabled\n"
        first, second = gpus.parsed(listed)
        assert (first.name, first.driver, first.total, first.mig) == ("NVIDIA H100", "580.1", 81559.0, False)
        assert (second.free, second.capability, second.mig) == (0.0, "8.0", True)

    def test_a_gpu_that_torch_cannot_use_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(gpus, "by_driver", lambda: [])
        assert gpus.look("GPUs", ASKED).verdict is Verdict.OK
        monkeypatch.setattr(gpus, "by_driver", lambda: gpus.parsed("NVIDIA H100, 470.1, 81559, 81000, 9.0, Disabled"))
        found = gpus.look("GPUs", ASKED)
        assert found.verdict is Verdict.FAILED
        assert "470.1" in found.detail


class TestVideo:
    @pytest.mark.parametrize("part", list(video.READERS))
    def test_the_right_frames_come_back(self, part: str) -> None:
        assert video.look(part, ASKED).verdict is Verdict.OK

    def test_frames_that_are_others_are_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def one_later(path: str, info: Any, frames: Sequence[int]) -> Iterator[Any]:
            return pyav_frames(path, info, [min(f + 1, info.frames - 1) if f == 12 else f for f in frames])

        monkeypatch.setitem(video.READERS, "video with PyAV", one_later)
        monkeypatch.setattr(video, "CHOSEN", (0, 7, 12, 20))
        found = video.look("video with PyAV", ASKED)
        assert found.verdict is Verdict.FAILED
        assert "[12] of [0, 7, 12, 20]" in found.detail


@pytest.fixture(scope="module")
def case() -> tiny.Tried:
    return tiny.tried()


class TestParity:
    def test_the_engine_of_the_trainer_says_what_the_plain_model_says(self) -> None:
        found = engines.look("engine transformers", ASKED)
        assert found.verdict is Verdict.OK
        assert 0 < found.figures["logprob_difference_nats"] < 1e-4

    def test_an_engine_with_other_weights_is_found(self, case: tiny.Tried, monkeypatch: pytest.MonkeyPatch) -> None:
        def shifted(tried: tiny.Tried, device: str) -> Any:
            model = tried.on(device)
            with torch.no_grad():
                next(iter(model.policy.family.language_model(model.policy.model).parameters())).mul_(1.01)
            from mmrl.rollout.transformers_engine import TransformersEngine

            return TransformersEngine(model.policy, model.processor.tokenizer, run_seed=0)

        monkeypatch.setitem(engines.ENGINES, "transformers", shifted)
        found = engines.look("engine transformers", ASKED)
        assert found.verdict is Verdict.FAILED
        assert "another model" in found.advice

    def test_the_plain_backend_makes_torch_s_update(self) -> None:
        found = backends.look("backend torch", ASKED)
        assert found.verdict is Verdict.OK
        assert found.figures["update_difference"] < 0.01

    def test_a_backend_that_steps_otherwise_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backends, "SETTINGS", replace(backends.SETTINGS, betas=(0.0, 0.0), weight_decay=0.1))
        assert backends.look("backend torch", ASKED).verdict is Verdict.OK  # at the first step Adam's betas cancel
        monkeypatch.setattr(backends, "SETTINGS", replace(backends.SETTINGS, learning_rate=1.1 * tiny.RATE))
        found = backends.look("backend torch", ASKED)
        assert found.verdict is Verdict.FAILED
        assert found.figures["update_difference"] == pytest.approx(0.1, rel=0.05)
