"""How much memory this process holds, and has held at most; and how soon it gives back what it no longer needs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
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
