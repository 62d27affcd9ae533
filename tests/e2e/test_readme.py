"""The README's commands, run as they stand there, in a folder that holds what a clone holds."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("   #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone")
    for name in ("configs", "data_recipes"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def run(arguments: list[str], folder: Path, *, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        arguments, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=timeout
    )


def test_make_targets_exist_and_quickstart_is_the_run_command() -> None:
    for line in commands():
        words = shlex.split(line)
        if words[0] == "make":
            planned = subprocess.run(
                ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True
            )
            if "quickstart" in words:
                assert "mmrl run configs/quickstart/digits.yaml" in planned.stdout


def test_every_command_is_one_of_make_or_mmrl() -> None:
    assert {shlex.split(line)[0] for line in commands()} == {"make", "mmrl"}


@pytest.mark.slow
def test_the_commands_work_in_order_and_the_quickstart_keeps_its_promise(clone: Path) -> None:
    """The whole quickstart, at full length: weak before, at least 90 % after, and everything that is said to follow."""
    for line in commands():
        words = shlex.split(line)
        if words[0] != "mmrl":
            continue
        done = run(words, clone)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr, "escape codes where there is no terminal"
        if words[1] == "run":
            check_report(clone / "runs" / "digits")
        if words[1] == "generate":
            assert re.search(r"<think>.*</think>\s*<answer>[A-J]</answer>", done.stdout)
    for code in blocks("python"):
        done = run([sys.executable, "-c", code], clone)
        assert done.returncode == 0, done.stderr
        assert re.match(r"[01]\.0 \{", done.stdout)


def check_report(run_dir: Path) -> None:
    report = json.loads((run_dir / "report.json").read_text())
    before, after = report["overall"]["before"], report["overall"]["after"]
    assert before["samples"] == after["samples"] == 297
    assert 0.15 <= before["accuracy"]["value"] <= 0.65
    assert before["format_rate"] >= 0.5
    # 91.6 % where the README's table was made; another processor rounds otherwise, and training carries that on: seeds
    # differ by five points.
    assert after["accuracy"]["value"] >= 0.86
    assert max(stage["peak_mib"] for stage in report["facts"]["stages"].values()) < 4096
    page = (run_dir / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 3
    assert "<script" not in page
