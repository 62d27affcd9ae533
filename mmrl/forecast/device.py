"""How fast a machine is: GPUs by their makers' data sheets, the processor by a product and a copy that are timed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mmrl.errors import ConfigError, unknown_name

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU, or the processor."""

    name: str
    memory: float  # bytes
    rate: float  # floating-point operations per second of a large dense product, bfloat16 on GPUs; 0: not known
    bandwidth: float  # bytes per second of its memory
    link: float  # bytes per second to the other ranks' devices, one direction
    host_link: float = 25e9  # bytes per second to the processor's memory
    efficiency: float = 0.5  # of `rate` that the products of a pass reach; assumed
    read: float = 0.75  # of `bandwidth` that reading weights and caches reaches; assumed
    call: float = 8e-6  # seconds of one operation, however small: started by the processor
    cuda: bool = True
    measured: bool = False

    @property
    def rated(self) -> bool:
        """Whether it is known how fast it is."""
        return self.rate > 0


def _gpu(name: str, gib: float, tera: float, tera_bytes: float, link_giga: float) -> Device:
    return Device(name=name, memory=gib * GIB, rate=tera * 1e12, bandwidth=tera_bytes * 1e12, link=link_giga * 1e9)


# Dense bfloat16 rate, memory bandwidth and links by the makers' data sheets; memory as the driver states it.
GPUS: Mapping[str, Device] = {
    "b200": _gpu("B200", 179.0, 2250, 8.0, 900),
    "h200": _gpu("H200", 140.4, 989, 4.8, 450),
    "h100": _gpu("H100 SXM", 79.6, 989, 3.35, 450),
    "h100-pcie": _gpu("H100 PCIe", 79.6, 756, 2.0, 64),
    "a100": _gpu("A100 80 GB", 79.2, 312, 2.0, 300),
    "a100-pcie": _gpu("A100 PCIe 80 GB", 79.2, 312, 1.935, 32),
    "a100-40": _gpu("A100 40 GB", 39.4, 312, 1.55, 300),
    "a100-40-pcie": _gpu("A100 PCIe 40 GB", 39.4, 312, 1.55, 32),
    "l40s": _gpu("L40S", 44.9, 362, 0.864, 32),
    "l40": _gpu("L40", 44.9, 181, 0.864, 32),
    "l4": _gpu("L4", 22.5, 121, 0.3, 32),
    "a40": _gpu("A40", 44.5, 150, 0.696, 32),
    "a10": _gpu("A10", 22.5, 125, 0.6, 32),
    "rtx5090": _gpu("RTX 5090", 31.4, 209.5, 1.79, 64),
    "rtx4090": _gpu("RTX 4090", 23.6, 165, 1.01, 32),
    "rtx3090": _gpu("RTX 3090", 23.7, 71, 0.936, 32),
    # These have no units for bfloat16: the rate is float32's.
    "v100": _gpu("V100 32 GB", 31.7, 15.7, 0.9, 150),
    "v100-pcie": _gpu("V100 PCIe 32 GB", 31.7, 14, 0.9, 16),
    "t4": _gpu("T4", 14.7, 8.1, 0.32, 16),
}

# What drivers call them, without the maker's and the line's name; the whole of it: a "Ti", a "Laptop GPU" or a part of
# a GPU (MIG) is another machine. Those that are not here are called by their key.
CALLED: Mapping[str, str] = {
    "h100": r"h100 (sxm5 )?80gb( hbm3)?",
    "h100-pcie": r"h100 pcie",
    "a100": r"a100 sxm4 80gb",
    "a100-pcie": r"a100 (80gb pcie|pcie 80gb)",
    "a100-40": r"a100 sxm4 40gb",
    "a100-40-pcie": r"a100 pcie 40gb",
    "rtx5090": r"rtx 5090",
    "rtx4090": r"rtx 4090",
    "rtx3090": r"rtx 3090",
    "v100": r"v100 sxm2 (16|32)gb",
    "v100-pcie": r"v100 pcie (16|32)gb",
}
LEFT_OUT = ("nvidia", "tesla", "geforce")


def gpu(name: str, *, memory_gib: float | None = None) -> Device:
    """By name; ConfigError names those that are known. `memory_gib`: of a MIG instance, or another edition."""
    found = GPUS.get(name.lower())
    if found is None:
        raise ConfigError(f"--gpu: {unknown_name('GPU', name, GPUS)}")
    return found if memory_gib is None else replace(found, memory=memory_gib * GIB)


def gpu_here() -> Device | None:
    """The first GPU that torch sees, with its memory; rates of the table, or none where it is not there."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    memory = float(properties.total_memory)
    key = known_as(properties.name)
    if key is None:
        return Device(name=properties.name, memory=memory, rate=0.0, bandwidth=0.0, link=0.0)
    return replace(GPUS[key], name=properties.name, memory=memory)


def known_as(label: str) -> str | None:
    """The key in `GPUS` of what a driver calls so; None: it is not there."""
    called = " ".join(word for word in re.findall(r"[a-z0-9]+", label.lower()) if word not in LEFT_OUT)
    return next((key for key in GPUS if re.fullmatch(CALLED.get(key, key), called)), None)


def processor(*, hidden: int, inner: int, threads: int | None, memory: float) -> Device:
    """This machine's processor, with products of the model's own widths: half a second."""
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        a, b = torch.randn(512, hidden), torch.randn(hidden, inner)
        rate = 2 * a.shape[0] * hidden * inner / _best(lambda: a @ b)
        source = torch.empty(32 * 2**20 // 4)
        target = torch.empty_like(source)
        bandwidth = 2 * source.nbytes / _best(lambda: target.copy_(source))
        small = torch.randn(8, 8)
        call = _best(lambda: [small.add(1) for _ in range(100)]) / 100
    finally:
        torch.set_num_threads(before)
    return Device(
        name="this processor",
        memory=memory,
        rate=rate,
        bandwidth=bandwidth,
        link=bandwidth / 4,
        host_link=bandwidth,
        efficiency=0.7,
        read=0.8,
        call=4 * call,  # with what Python does around it
        cuda=False,
        measured=True,
    )


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several."""
    seconds: list[float] = []
    until = time.perf_counter() + 0.15
    while len(seconds) < 3 or time.perf_counter() < until:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
