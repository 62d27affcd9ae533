"""The peak is this program's own, whoever started it."""

from __future__ import annotations

import subprocess
import sys

from mmrl.memory import peak_memory_mib

LARGE = """
import subprocess, sys
block = bytearray(600 * 2**20)
block[::4096] = b"x" * len(block[::4096])
print(subprocess.run([sys.executable, "-c", sys.argv[1]], capture_output=True, text=True, check=True).stdout)
"""
ASK = "from mmrl.memory import peak_memory_mib; print(peak_memory_mib())"


def test_a_small_program_started_by_a_large_one_is_small() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE, ASK], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 300


def test_what_is_held_shows_and_stays() -> None:
    held = bytearray(200 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    with_it = peak_memory_mib()
    del held
    assert with_it > 200
    assert peak_memory_mib() >= with_it - 1  # the kernel counts pages in batches per processor
