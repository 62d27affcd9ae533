"""`mmrl app demo` as it is called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mmrl.cli.main import main


def test_mistakes_are_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    assert main(["app", "demo", str(tmp_path / "nowhere")]) == 2
    assert "there is no model folder" in capsys.readouterr().err
    assert main(["app", "demo", str(tiny_folder), "--share"]) == 2
    assert "no password is set" in capsys.readouterr().err
    assert main(["app", "demo", str(tiny_folder), "--host", "0.0.0.0"]) == 2
    assert "can be reached by others" in capsys.readouterr().err
    assert main(["app", "demo", str(tiny_folder), "--engine", "nosuch"]) == 2
    assert "'transformers', 'vllm'" in capsys.readouterr().err


@pytest.mark.slow
def test_it_prints_its_address_listens_on_the_own_machine_and_leaves_nothing_behind(
    tiny_folder: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mmrl", "app", "demo", str(tiny_folder), "--keep", str(tmp_path / "kept")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http" in line)
            assert line.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(line.split()[0] + "config", timeout=60) as reply:
                assert reply.status == 200
            assert list(tmp_path.glob("mmrl-demo-*"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 143
        finally:
            process.kill()
    assert not list(tmp_path.glob("mmrl-demo-*"))
    assert not (tmp_path / "kept").exists()
