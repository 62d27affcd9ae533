"""How much memory this process holds, has held at most and may still have; how soon it gives back what is free.

What it may still have is the machine's, or what a container or a batch system leaves of it: control groups, version 2
or 1 (the kernel's Documentation/admin-guide, cgroup-v2.rst and cgroup-v1/memory.rst). A group's limit counts the page
cache of files that were read, so what the kernel drops of that when memory is asked for is not taken for held.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
STATUS = Path("/proc/self/status")
NO_LIMIT = 2**60  # bytes: version 1 says "none" by a number as huge as this
LARGE_BLOCK = 2**20
_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def peak_memory_mib() -> float:
    """Most memory this process ever held resident, MiB.

    On Linux from the kernel's high-water mark of this program's own memory. `getrusage` would not do: what it says
    survives `exec`, so a small program that a large one started (a test runner, a notebook) shows the large one's peak.
    Elsewhere getrusage's figure, which is bytes on macOS and KiB otherwise.
    """
    if STATUS.is_file() and (found := re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)):
        return int(found[1]) / 2**10
    import resource  # not on Windows, and not needed on Linux

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def memory_mib() -> float:
    """Memory this process holds resident now, MiB. Where the kernel does not tell: the most it ever held."""
    if STATUS.is_file() and (found := re.search(r"^VmRSS:\s+(\d+) kB", STATUS.read_text(), flags=re.MULTILINE)):
        return int(found[1]) / 2**10
    return peak_memory_mib()


def free_memory_bytes(root: Path = ROOT) -> int:
    """Memory that can be had without swapping: the least of the machine's and of what each control group still allows.

    0 where the system does not say (anything but Linux). `root`: where the system's files are.
    """
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"), flags=re.MULTILINE)
    if found is None:
        return 0
    return max(0, min([int(found[1]) * 2**10, *(group.limit - group.held for group in _limits(root))]))


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes that the control groups of this process allow; None: as many as the machine has."""
    return min((group.limit for group in _limits(root)), default=None)


def control_groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """The folders of this process's group and those above it, which limit it as well; some may not exist.

    `controller`: "memory", "cpu" of version 1, "" of version 2. A container may be shown its own group as the top.
    """
    top = root / "sys/fs/cgroup" / controller
    yield top
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            inner = top / path.lstrip("/")
            while inner != top and top in inner.parents:
                yield inner
                inner = inner.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """Of one control group."""

    limit: int  # bytes
    held: int  # bytes of it, without what the kernel gives back when asked: files not in use, caches of its own


def _limits(root: Path) -> Iterator[_Limit]:
    for folder in control_groups("", root):
        yield from _limit(folder, "memory.max", "memory.current", ("inactive_file", "slab_reclaimable"))
    for folder in control_groups("memory", root):
        yield from _limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file",))


def _limit(folder: Path, limit: str, current: str, given_back: tuple[str, ...]) -> Iterator[_Limit]:
    """None, or one. `given_back`: lines of memory.stat, of the group and those below it."""
    most, used = _text(folder / limit), _text(folder / current)
    if not most.isdigit() or int(most) >= NO_LIMIT:
        return
    stat = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines())
    cached = sum(int(stat.get(name, 0)) for name in given_back)
    yield _Limit(limit=int(most), held=max(0, (int(used) if used.isdigit() else 0) - cached))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def return_large_blocks() -> bool:
    """Have blocks of `LARGE_BLOCK` bytes and more go back to the system as soon as they are free, from now on.

    By itself glibc keeps free ones of up to 32 MiB between others that are in use. Says whether this could be done:
    with other C libraries it cannot.
    """
    import ctypes  # not for those who only ask
    import platform

    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK))
