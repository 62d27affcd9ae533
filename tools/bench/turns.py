"""One cell measured: both tools loaded, stepping in turn; first step apart, then timed steps, then a counted one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

from tools.bench.cell import Cell
from tools.bench.counting import Bounds, beside_bounds
from tools.bench.workers import Worker

LEAST_ROUNDS = 2  # timed steps per tool, whatever the time allows


def measure(cell: Cell, tools: Sequence[str], *, steps: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Per tool: step times, memory, counters, phases. The manifest holds `steps` + 3 steps behind the warm-up: the
    first, the counted one, and one for a tool that prepares the next step's pictures early.

    After `seconds` of timed steps no further round is begun.
    """
    with ExitStack() as stack:
        workers = {tool: stack.enter_context(Worker(tool, cell)) for tool in tools}
        sizes = {tool: [tuple(size) for size in worker.ready()["prompts"]] for tool, worker in workers.items()}
        if len(set(map(tuple, sizes.values()))) != 1:
            raise SystemExit(f"the tools do not read the same prompts; (tokens, patches) by tool: {sizes}")
        for worker in workers.values():
            worker.order("step")  # on the smallest pictures: loads what is loaded late, allocates optimiser state
        bases = {tool: worker.order("baseline")["memory"] for tool, worker in workers.items()}
        firsts = {tool: worker.order("step")["seconds"] for tool, worker in workers.items()}
        timed: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
        began = time.perf_counter()
        for done in range(steps):
            if done >= LEAST_ROUNDS and time.perf_counter() - began > seconds:
                break
            for tool, worker in workers.items():
                timed[tool].append(worker.order("step"))
        lasts = {tool: worker.order("count") for tool, worker in workers.items()}
    bounds = Bounds.of(
        sizes[tools[0]],
        group_size=cell.group_size,
        completion_tokens=cell.completion_tokens,
        beta=cell.beta,
        frozen=cell.freeze_vision,
    )
    return {
        tool: {
            "step_seconds": median(step["seconds"] for step in timed[tool]),
            "all_seconds": [round(step["seconds"], 4) for step in timed[tool]],
            "first_seconds": firsts[tool],
            "memory": beyond(bases[tool], lasts[tool]["memory"]),
            "counters": beside_bounds(lasts[tool]["counts"], bounds),
            "bound": bounds.why,
            "prompt_sizes": sizes[tool],
            "phases": phases(timed[tool]),
        }
        for tool in tools
    }


def beyond(base: dict[str, float], last: dict[str, float]) -> dict[str, float]:
    """MiB held by the loaded model, its reference and optimiser, and at most beyond that in any step since."""
    figures = {"loaded_mib": base["now_mib"], "beyond_mib": last["peak_mib"] - base["now_mib"]} if base else {}
    if "gpu_now_mib" in base:
        figures["gpu_loaded_mib"] = base["gpu_now_mib"]
        figures["gpu_beyond_mib"] = last["gpu_peak_mib"] - base["gpu_now_mib"]
    return figures


def phases(steps: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median seconds by phase, where the tool reports phases; `rest` is what no phase covers."""
    if "phases" not in steps[0]:
        return {}
    names = sorted({name for step in steps for name in step["phases"]})
    rest = median(step["seconds"] - sum(step["phases"].values()) for step in steps)
    return {name: median(step["phases"].get(name, 0.0) for step in steps) for name in names} | {"rest": rest}
