"""The peak is this program's own, whoever started it; large blocks go back to the system at once, when asked."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


HOLES = """
import sys, torch
from mmrl.memory import memory_mib, return_large_blocks
if sys.argv[1] == "at once":
    assert return_large_blocks()
seen = torch.ones(4 * 2**20)  # 16 MiB: freed, it tells glibc that such blocks come and go
del seen
blocks = [torch.ones(2**20) for _ in range(100)]  # 4 MiB each
before = memory_mib()
del blocks[::2]
print(before - memory_mib())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_holes_between_what_is_kept_go_back_when_asked() -> None:
    def given_back(how: str) -> float:
        done = subprocess.run([sys.executable, "-c", HOLES, how], capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert given_back("later") < 20
    assert given_back("at once") == pytest.approx(200, abs=10)  # fifty of the hundred
