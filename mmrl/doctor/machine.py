"""Processor, memory and limits: the machine's own, and what a container or a batch system leaves of them."""

from __future__ import annotations

import math
import os
import platform
import sys
from pathlib import Path

from mmrl.doctor.finding import Asked, Finding, Verdict
from mmrl.memory import ROOT, control_groups, free_memory_bytes, memory_limit

GIB = 2**30
LEAST_MEMORY = 2 * GIB  # free: torch, transformers and the tiny model take one
GOOD_MEMORY = 8 * GIB
GOOD_SHARED = GIB
GOOD_FILES = 1024


def look(part: str, asked: Asked) -> Finding:
    """One of python, processor, memory, shared memory, open files."""
    return {
        "python": _python,
        "processor": _processor,
        "memory": _memory,
        "shared memory": _shared,
        "open files": _files,
    }[part](part)


def cpu_quota(root: Path = ROOT) -> float | None:
    """Processors that the control groups of this process allow, cgroup v2 or v1; None: as many as there are."""
    found = []
    for folder in control_groups("", root):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.strip().isdigit():
            found.append(int(quota) / int(period))
    for folder in control_groups("cpu", root):
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # "-1": none
            found.append(int(quota) / int(period))
    return min(found) if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _python(part: str) -> Finding:
    fine = sys.version_info >= (3, 11)
    return Finding(
        check=part,
        verdict=Verdict.OK if fine else Verdict.FAILED,
        detail=f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        advice="" if fine else "mmrl needs Python 3.11 or later",
    )


def _processor(part: str) -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    allowed = max(1, math.floor(min(usable, quota if quota is not None else usable)))
    threads = {name: value for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if (value := os.environ.get(name))}
    within = f", of which a limit allows {quota:g}" if quota is not None and quota < usable else ""
    detail = f"{usable} cores{within}"
    detail += "".join(f"; {name}={value}" for name, value in threads.items())
    asked = max((int(value) for value in threads.values() if value.isdigit()), default=0)
    advice = ""
    if asked > allowed:
        advice = f"threads beyond the cores wait for each other: set OMP_NUM_THREADS={allowed}"
    elif not asked and quota is not None and allowed < usable:
        advice = f"torch does not see the limit and would start {usable} threads: set backend.threads: {allowed}"
    return Finding(
        check=part,
        verdict=Verdict.WARNING if advice else Verdict.OK,
        detail=detail,
        advice=advice,
        figures={"cores": usable, "allowed_cores": allowed},
    )


def _memory(part: str) -> Finding:
    free, limit = free_memory_bytes(), memory_limit()
    if not free:
        return Finding(check=part, verdict=Verdict.OK, detail="this system does not say how much is free")
    verdict = Verdict.OK if free >= GOOD_MEMORY else Verdict.WARNING if free >= LEAST_MEMORY else Verdict.FAILED
    advice = {
        Verdict.OK: "",
        Verdict.WARNING: "enough for tiny models only: `mmrl plan CONFIG` says what a run needs",
        Verdict.FAILED: f"end other programs, or raise the container's limit: {LEAST_MEMORY // GIB} GiB are the least",
    }[verdict]
    within = f" of {limit / GIB:.1f} GiB that the container or job allows" if limit is not None else ""
    return Finding(
        check=part,
        verdict=verdict,
        detail=f"{free / GIB:.1f} GiB free{within}",
        advice=advice,
        figures={"free_gib": free / GIB} | ({"limit_gib": limit / GIB} if limit is not None else {}),
    )


def _shared(part: str) -> Finding:
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding(check=part, verdict=Verdict.OK, detail="there is no /dev/shm on this system")
    stat = os.statvfs(place)
    size, free = stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize
    small = free < GOOD_SHARED
    return Finding(
        check=part,
        verdict=Verdict.WARNING if small else Verdict.OK,
        detail=f"/dev/shm: {free / GIB:.2g} of {size / GIB:.2g} GiB free",
        advice="several GPUs exchange through it (NCCL, vLLM): docker run --shm-size=16g; one process does without"
        if small
        else "",
        figures={"size_gib": size / GIB, "free_gib": free / GIB},
    )


def _files(part: str) -> Finding:
    if sys.platform == "win32":
        return Finding(check=part, verdict=Verdict.OK, detail="this system does not say")
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < GOOD_FILES
    return Finding(
        check=part,
        verdict=Verdict.WARNING if few else Verdict.OK,
        detail=f"{soft} at a time" if soft >= 0 else "no limit",
        advice=f"raise it before long runs: ulimit -n {4 * GOOD_FILES}" if few else "",
        figures={"open_files": soft},
    )
