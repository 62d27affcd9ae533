"""Where and with what a benchmark ran: goes into its JSON."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "trl", "accelerate", "numpy")


def machine() -> dict[str, Any]:
    """Date, processor, memory, load before the run, versions."""
    from mmrl import __version__

    versions = {"python": platform.python_version(), "mmrl": __version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": _found("/proc/cpuinfo", r"model name\s*: (.+)") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(int(_found("/proc/meminfo", r"MemTotal:\s+(\d+)") or 0) / 2**20, 1),
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "versions": versions,
    }


def _found(path: str, pattern: str) -> str:
    file = Path(path)
    match = re.search(pattern, file.read_text()) if file.exists() else None
    return match[1].strip() if match else ""
