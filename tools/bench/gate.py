"""The worker's end of the pipe: a training loop that stops between its steps until it is told to take the next one.

    parent → worker   {"do": "step"}   {"do": "count"} (a step with counters)   {"do": "baseline"}   {"do": "evaluate"}
    worker → parent   one JSON object per order, the first when the model is loaded

The clock runs from the order to the end of the step: whatever the loop does in between, fetching data included.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tools.bench.counting import Counts

STATUS = Path("/proc/self/status")


class Gate:
    """Held by the loop at the end of every step."""

    def __init__(self, counts: Counts, *, evaluate: Callable[[], float] | None = None) -> None:
        self._counts = counts
        self._evaluate = evaluate
        self._began = 0.0
        self._counting = False
        self._orders = sys.stdin
        # The tools print what they like; the pipe is ours alone.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def ready(self, **facts: Any) -> None:
        """The model is loaded. Returns with the order to take the first step."""
        self._say({"ready": True, **facts})
        self._wait()

    def step_done(self, **facts: Any) -> None:
        """Reports the step that ended just now, then returns with the order to take the next."""
        if _cuda():
            import torch

            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._began
        counted = self._counts.stop() if self._counting else None
        self._say({"seconds": seconds, "counts": counted, "memory": memory(), **facts})
        self._wait()

    def _wait(self) -> None:
        while True:
            line = self._orders.readline()
            order = json.loads(line)["do"] if line else "stop"
            if order in ("step", "count"):
                self._counting = order == "count"
                if self._counting:
                    self._counts.start()
                self._began = time.perf_counter()
                return
            if order == "baseline":
                self._say({"memory": baseline()})
            elif order == "evaluate" and self._evaluate is not None:
                self._say({"accuracy": self._evaluate()})
            else:
                self._end()

    def _say(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def _end(self) -> NoReturn:
        """Neither loop expects to be stopped between two steps, and there is nothing to save."""
        self._answers.close()
        os._exit(0)


def baseline() -> dict[str, float]:
    """Give back what is free, forget the high-water mark, and say what is held: MiB."""
    gc.collect()
    if _cuda():
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if STATUS.exists():
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return memory()


def memory() -> dict[str, float]:
    """Memory held now and at most since `baseline`, MiB: of the process (Linux), and of the GPU where there is one."""
    figures: dict[str, float] = {}
    if STATUS.exists():
        found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", STATUS.read_text()))
        figures |= {"now_mib": int(found["VmRSS"]) / 1024, "peak_mib": int(found["VmHWM"]) / 1024}
    if _cuda():
        import torch

        figures["gpu_now_mib"] = torch.cuda.memory_allocated() / 2**20
        figures["gpu_peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return figures


def _cuda() -> bool:
    import torch

    return bool(torch.cuda.is_initialized())
