"""The GPUs: what the driver says and what torch can do with them. Their settings are read, never changed."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from mmrl.doctor.finding import Asked, Finding, Verdict

FIELDS = ("name", "driver_version", "memory.total", "memory.free", "compute_cap", "mig.mode.current")
SMI_SECONDS = 10.0
BFLOAT16_SINCE = (8, 0)  # compute capability
FREE_SHARE = 0.9  # of its memory: less is held by somebody


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One GPU as the driver sees it; memory in MiB."""

    name: str
    driver: str
    total: float
    free: float
    capability: str
    mig: bool  # it is divided into instances, which are used as they are


def look(part: str, asked: Asked) -> Finding:
    """All GPUs in one row."""
    seen = by_driver()
    import torch

    if not torch.cuda.is_available():
        return _unusable(part, seen, torch.version.cuda)
    rows, told = [], []
    free: list[float] = []
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        capability = (properties.major, properties.minor)
        left, total = torch.cuda.mem_get_info(i)
        free.append(left / 2**30)
        rows.append(
            f"{i}: {properties.name}, {left / 2**30:.0f} of {total / 2**30:.0f} GiB free, compute capability "
            f"{capability[0]}.{capability[1]}"
        )
        if capability < BFLOAT16_SINCE:
            told.append(f"GPU {i} has no fast bfloat16: set backend.dtype: float32")
        if left < FREE_SHARE * total:
            told.append(f"somebody holds memory of GPU {i}: nvidia-smi shows who")
        a = torch.randn(256, 256, device=f"cuda:{i}")
        difference = float(((a.bfloat16() @ a.bfloat16()).float() - a @ a).abs().max() / (a @ a).abs().max())
        if not difference < 0.05:
            told.append(f"GPU {i} multiplies wrongly in bfloat16 (off by {difference:.0%})")
    driver = f"driver {seen[0].driver}, " if seen else ""
    mig = "; divided into MIG instances" if any(one.mig for one in seen) else ""
    return Finding(
        check=part,
        verdict=Verdict.WARNING if told else Verdict.OK,
        detail=f"{driver}CUDA {torch.version.cuda}{mig}; " + "; ".join(rows),
        advice="; ".join(told),
        figures={"gpus": len(rows)} | {f"free_gib_{i}": value for i, value in enumerate(free)},
    )


def by_driver() -> list[Seen]:
    """What nvidia-smi lists; empty where there is none or it does not answer."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return []
    return parsed(out)


def parsed(listed: str) -> list[Seen]:
    """The lines of nvidia-smi; what it does not know ("[N/A]") is 0."""
    found = []
    for line in listed.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(FIELDS):
            name, driver, total, free, capability, mig = cells
            found.append(
                Seen(
                    name=name,
                    driver=driver,
                    total=float(total) if total.isdigit() else 0.0,
                    free=float(free) if free.isdigit() else 0.0,
                    capability=capability,
                    mig=mig == "Enabled",
                )
            )
    return found


def _unusable(part: str, seen: list[Seen], cuda: str | None) -> Finding:
    if not seen:
        return Finding(
            check=part, verdict=Verdict.OK, detail="none: everything runs on the processor", figures={"gpus": 0}
        )
    what = f"the driver ({seen[0].driver}) sees {len(seen)} × {seen[0].name}, torch sees none"
    if cuda is None:
        advice = "torch is built for the processor only: install the CUDA build (the one on PyPI)"
    else:
        advice = (
            f"torch is built for CUDA {cuda}: a newer driver, or a torch for an older CUDA, may be needed; is "
            "CUDA_VISIBLE_DEVICES empty, or the GPU not passed into the container (docker run --gpus all)?"
        )
    return Finding(check=part, verdict=Verdict.FAILED, detail=what, advice=advice, figures={"gpus": len(seen)})
