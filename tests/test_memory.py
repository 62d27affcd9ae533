"""The peak is this program's own, whoever started it; large blocks go back to the system at once, when asked; free is
what every control group still allows, files that nobody uses not counted.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from mmrl.memory import free_memory_bytes, memory_limit, peak_memory_mib

GIB = 2**30

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


def written(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def meminfo(gib: int) -> dict[str, str]:
    kib = gib * 2**20
    return {"proc/meminfo": f"MemTotal:       {2 * kib} kB\nMemFree:         1024 kB\nMemAvailable:   {kib} kB\n"}


def group(folder: str, limit: int | str, current: int, inactive_file: int = 0, slab: int = 0) -> dict[str, str]:
    """Of version 2."""
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{current}\n",
        f"{folder}/memory.stat": f"anon 1\nfile 2\ninactive_file {inactive_file}\nslab_reclaimable {slab}\n",
    }


def test_what_a_container_has_read_is_not_held(tmp_path: Path) -> None:
    """16 GiB are allowed, 15 used: 11.5 of them hold files that were read, half a GiB the kernel's own caches."""
    written(tmp_path, meminfo(100) | {"proc/self/cgroup": "0::/\n"})
    assert memory_limit(tmp_path) is None
    assert free_memory_bytes(tmp_path) == 100 * GIB
    written(tmp_path, group("sys/fs/cgroup", 16 * GIB, 15 * GIB, inactive_file=23 * GIB // 2, slab=GIB // 2))
    assert memory_limit(tmp_path) == 16 * GIB
    assert free_memory_bytes(tmp_path) == 13 * GIB
    written(tmp_path, meminfo(5))
    assert free_memory_bytes(tmp_path) == 5 * GIB


def test_groups_above_this_process_s_own_limit_it_too(tmp_path: Path) -> None:
    """A job's 8 GiB, of which a step beside this one holds 5; the step itself has no limit, then one of 2."""
    written(tmp_path, meminfo(100) | {"proc/self/cgroup": "0::/slurm/job_7/step_0\n"})
    written(tmp_path, group("sys/fs/cgroup/slurm", "max", 9 * GIB))
    written(tmp_path, group("sys/fs/cgroup/slurm/job_7", 8 * GIB, 6 * GIB, inactive_file=GIB))
    written(tmp_path, group("sys/fs/cgroup/slurm/job_7/step_0", "max", GIB))
    written(tmp_path, group("sys/fs/cgroup/slurm/job_8", GIB, GIB))  # another's
    assert memory_limit(tmp_path) == 8 * GIB
    assert free_memory_bytes(tmp_path) == 3 * GIB
    written(tmp_path, group("sys/fs/cgroup/slurm/job_7/step_0", 2 * GIB, GIB))
    assert memory_limit(tmp_path) == 2 * GIB
    assert free_memory_bytes(tmp_path) == GIB


@pytest.mark.parametrize("shown", ["sys/fs/cgroup/memory", "sys/fs/cgroup/memory/slurm/uid_1"])
def test_old_control_groups_limit_as_well(tmp_path: Path, shown: str) -> None:
    """A container is shown its own group as the top, a job on the machine itself the whole tree."""
    listed = "5:devices:/\n4:cpu,cpuacct:/other\n3:memory:/slurm/uid_1/job_7\n1:name=systemd:/\n0::/\n"
    written(tmp_path, meminfo(100) | {"proc/self/cgroup": listed})
    written(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert memory_limit(tmp_path) is None
    assert free_memory_bytes(tmp_path) == 100 * GIB
    stat = f"inactive_file 0\ntotal_cache 5\ntotal_inactive_file {2 * GIB}\n"
    files = {"memory.limit_in_bytes": f"{4 * GIB}\n", "memory.usage_in_bytes": f"{3 * GIB}\n", "memory.stat": stat}
    written(tmp_path, {f"{shown}/{name}": text for name, text in files.items()})
    assert memory_limit(tmp_path) == 4 * GIB
    assert free_memory_bytes(tmp_path) == 3 * GIB


def test_nothing_is_said_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path) == 0
    written(tmp_path, meminfo(1) | group("sys/fs/cgroup", GIB, 2 * GIB))  # held beyond a limit that was lowered
    assert free_memory_bytes(tmp_path) == 0
