"""`mmrl eval` in a process of its own: killed without warning it loses nothing it had, whichever engine samples."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mmrl.data.manifest import write_manifest
from tests.toy import choice_sample

SAMPLES, EACH = 24, 2  # completions of each: a greedy one and one that is drawn


@pytest.fixture
def arguments(tiny_folder: Path, pictures: list[Path], tmp_path: Path) -> list[str]:
    """Of an evaluation of two samples at a time."""
    asked = [choice_sample(f"s{i}", [pictures[i % 2]], question=f"Which {i}?") for i in range(SAMPLES)]
    write_manifest(tmp_path / "test.jsonl", asked)
    config = {
        "run": {"name": "asked", "folder": str(tmp_path)},
        "model": {"path": str(tiny_folder)},
        "data": {"train": str(tmp_path / "test.jsonl")},
        "rewards": {"default": [{"name": "choice"}]},
        "rollout": {"max_tokens": 12, "vllm": {"cache_gib": 0.1}},
        "evaluation": {"batch_prompts": 2, "samples_per_prompt": 1, "ks": [1]},
        "backend": {"threads": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    data = ["--data", str(tmp_path / "test.jsonl"), "--config", str(tmp_path / "config.yaml")]
    return ["-m", "mmrl", "eval", str(tiny_folder), *data]


def evaluated(arguments: list[str], store: Path, *more: str) -> tuple[str, str]:
    """(standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, *arguments, "--store", str(store), *more], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def reused(errors: str) -> tuple[int, int]:
    """(completions that were there already, that were generated); nothing is said where none was there."""
    found = re.search(r"(\d+) completions were there already .*; (\d+) generated", errors)
    return (int(found[1]), int(found[2])) if found else (0, -1)


def kept(store: Path) -> int:
    """Completions in the store."""
    return sum(len(path.read_text(errors="replace").splitlines()) for path in store.rglob("*.jsonl"))


@pytest.mark.slow
def test_a_killed_process_keeps_what_it_had_generated(arguments: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [sys.executable, *arguments, "--store", str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        until = time.monotonic() + 240
        while kept(tmp_path / "killed") < 4 and killed.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    finally:
        killed.kill()
        killed.wait()
    assert killed.returncode == -signal.SIGKILL, "it was over before it could be killed"
    had = kept(tmp_path / "killed")
    assert 4 <= had < SAMPLES * EACH
    out, err = evaluated(arguments, tmp_path / "killed", "--out", str(tmp_path / "a.json"))
    whole, whole_err = evaluated(arguments, tmp_path / "whole", "--out", str(tmp_path / "b.json"))
    assert reused(whole_err) == (0, -1)
    found, generated = reused(err)
    assert had - 1 <= found <= had, "the last line may have been cut off"
    assert found + generated == SAMPLES * EACH
    assert out == whole
    assert (
        json.loads((tmp_path / "a.json").read_text())["rows"] == json.loads((tmp_path / "b.json").read_text())["rows"]
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_what_vllm_generated_is_not_generated_again(arguments: list[str], tmp_path: Path) -> None:
    out, err = evaluated(arguments, tmp_path / "store", "--engine", "vllm", "--limit", "4")
    assert reused(err) == (0, -1)
    again, err = evaluated(arguments, tmp_path / "store", "--engine", "vllm", "--limit", "4")
    assert (again, reused(err)) == (out, (4 * EACH, 0))
