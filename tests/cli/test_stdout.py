"""Results go to stdout and nothing else does, whatever libraries are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_saving_a_model_prints_the_result_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mmrl", "model", "tiny", str(tmp_path / "tiny")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'tiny'}: 1.31 M parameters\n"
