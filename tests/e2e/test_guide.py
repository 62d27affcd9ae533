"""docs/guide.md, walked from its first command to its last in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text()
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "OMP_NUM_THREADS": "1",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks("bash") for line in block.splitlines()]


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_it_goes_from_the_table_to_the_model() -> None:
    assert all(words[0] == "mmrl" for words in commands())
    walked = [" ".join(words[1:3]) if words[1] in ("data", "rewards", "config") else words[1] for words in commands()]
    assert walked == [
        *("data convert", "data validate", "data stats", "data split", "rewards lint", "config check"),
        *("run", "eval", "export", "generate"),
    ]


@pytest.mark.slow
def test_every_command_works_in_order(tmp_path: Path) -> None:
    [python], [config] = blocks("python"), blocks("yaml")
    subprocess.run([sys.executable, "-c", python], cwd=tmp_path, check=True)
    (tmp_path / "lamps.yaml").write_text(config)
    said: dict[str, str] = {}
    for words in commands():
        done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        said[" ".join(words[1:3])] = done.stdout
    assert len(lines(tmp_path / "mine" / "all.jsonl")) == 299
    [left] = lines(tmp_path / "mine" / "all.dropped.jsonl")
    assert "answer is no option" in left
    assert "truncated image" in said["data validate"]
    assert len(lines(tmp_path / "mine" / "split" / "train.jsonl")) == 240
    assert len(lines(tmp_path / "mine" / "split" / "test.jsonl")) == 58
    assert "every one can be won, and none by cheating" in said["rewards lint"]
    report = json.loads((tmp_path / "runs" / "lamps" / "report.json").read_text())
    after = report["overall"]["after"]
    assert after["samples"] == 58
    assert after["format_rate"] > 0.9
    assert after["accuracy"]["value"] > report["overall"]["before"]["accuracy"]["value"]  # seen: 74 % → 90 %
    assert "|" in (tmp_path / "comparison.md").read_text()
    assert (tmp_path / "models" / "lamps" / "README.md").is_file()
    assert re.search(r"<answer>[A-C]</answer>", said["generate models/lamps"])
    open_inspector(tmp_path)


def open_inspector(folder: Path) -> None:
    """The page of section 6 comes up, and ends when told to."""
    process = subprocess.Popen(
        ["mmrl", "app", "inspect", "runs/lamps"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            address = next(line for line in process.stdout if "http" in line).split()[0]
            with urllib.request.urlopen(address, timeout=60) as reply:
                assert reply.status == 200
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        finally:
            process.kill()
