"""`mmrl doctor` as a command: its table, its JSON, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli.main import main
from mmrl.doctor import catalog
from mmrl.doctor.finding import Check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checks, one of which crashes."""
    run = "tests.doctor.faults:look"
    for name in list(catalog.CHECKS):
        monkeypatch.delitem(catalog.CHECKS, name)
    monkeypatch.setitem(catalog.CHECKS, "one", Check(run=run, parts=("fine 1",), seconds=30, needed=("fine 1",)))
    monkeypatch.setitem(catalog.CHECKS, "two", Check(run=run, parts=("refuse",), seconds=30, slow=True))


def test_what_is_not_needed_may_fail(faulty: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--quiet", "--folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "fine 1  OK       fine 1 saw auto" in out
    assert "refuse  failed   backend.type is deepspeed" in out
    assert "1 OK, 1 failed" in out
    assert "What to do:\n  refuse: only backend.type deepspeed needs it" in out


def test_what_is_needed_may_not(
    faulty: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = Check(run="tests.doctor.faults:look", parts=("exit",), seconds=30, needed=("exit",))
    monkeypatch.setitem(catalog.CHECKS, "three", check)
    assert main(["doctor", "--quiet", "--json", "--fast", "--folder", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert not found["cpu_run"]
    assert [finding["check"] for finding in found["findings"]] == ["fine 1", "exit"]  # the slow one is left out
    assert printed.err == "mmrl: nothing trains on this machine yet: exit. What to do is said above.\n"


@pytest.mark.slow
def test_all_of_it_on_this_machine(tmp_path: Path) -> None:
    """Real engines and backends in their processes, vLLM where it is installed."""
    began = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mmrl",
            "doctor",
            "--json",
            "--seconds",
            "280",
            "--device",
            "cpu",
            "--log",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    print(f"mmrl doctor: {time.perf_counter() - began:.0f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert [name for name, finding in found.items() if finding["verdict"] == "failed"] == []
    for name in ("engine transformers", "engine vllm", "engine vllm_server"):
        if found[name]["verdict"] == "OK":
            assert 0 < found[name]["figures"]["logprob_difference_nats"] < 1e-4
    for name in ("torch", "deepspeed, ZeRO 0", "deepspeed, ZeRO 2", "deepspeed, ZeRO 3"):
        assert found[f"backend {name}"]["figures"]["update_difference"] < 0.02
