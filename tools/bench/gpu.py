"""One whole GRPO step on one GPU, mmrl beside TRL: the shape of Qwen2.5-VL-3B, random weights, bfloat16.

    python tools/bench/gpu.py --json gpu.json
    python tools/bench/gpu.py --visual-tokens 1024 --group-sizes 8 --prompts 4 --completion-tokens 256
    python tools/bench/gpu.py --device cpu --tiny              a dry run of everything but the GPU

Reported per cell: seconds, completion tokens per second, GPU memory beyond the loaded model, and shares of the GPU's
matrix rate. `needed` is what a step needs at least (`flops.py` has the formula), the same for both tools; over the time
it took, it is the model FLOPs utilisation. `computed` is what the counters say was multiplied with weights, repeated
prompts included. `update` is mmrl's update alone: the part that is bound by arithmetic, not by memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from transformers import AutoConfig

from mmrl.cli.console import print_table
from mmrl.policy.tiny import save_tiny_model
from tools.bench.big_model import save_big_model
from tools.bench.cell import REWARDS, Cell, noise_samples
from tools.bench.flops import Shape, computed, needed
from tools.bench.machine import machine
from tools.bench.scratch import scratch_folder
from tools.bench.turns import measure

# Dense bfloat16 matrix rate by the makers' data sheets, 10¹² operations per second; the first name that fits counts.
SHEETS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "A10": 125.0}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "torch sees no CUDA device here. Run this on a machine with one, or try everything but the GPU with "
            "--device cpu --tiny."
        )
    if options.device == "cpu" and not options.tiny:
        raise SystemExit("--device cpu is for dry runs with --tiny; three billion parameters would take hours a step.")
    report: dict[str, Any] = {"machine": machine() | rates(options), "arguments": {}, "cells": []}
    report["arguments"] = {key: str(value) for key, value in vars(options).items()}
    with scratch_folder(options.scratch) as folder:
        model = folder / "model"
        save_tiny_model(model, seed=0) if options.tiny else save_big_model(model, device=options.device)
        shape = Shape.of(AutoConfig.from_pretrained(model))
        for visual in options.visual_tokens:
            for size in options.group_sizes:
                row = one_cell(folder, options, shape, visual, size, report["machine"]["rate_tflops"])
                report["cells"].append(row)
                if options.json:
                    options.json.write_text(json.dumps(report, indent=1))
    show(report)
    return report


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--tiny", action="store_true", help="the tiny model in float32, to try this file out")
    add("--visual-tokens", type=int, nargs="+", default=(256, 1024, 4096), help="square numbers")
    add("--group-sizes", type=int, nargs="+", default=(8, 16))
    add("--prompts", type=int, default=4, help="per step")
    add("--completion-tokens", type=int, default=256, help="the length of every completion")
    add("--beta", type=float, default=0.04, help="of the divergence from the reference; 0: no reference")
    add("--freeze-vision", action="store_true", help="tower and projector do not train")
    add("--tools", nargs="+", choices=("mmrl", "trl"), default=("mmrl", "trl"))
    add("--apart", action="store_true", help="one tool after the other, where both do not fit on the GPU together")
    add("--steps", type=int, default=5, help="timed steps per tool and cell")
    add("--seconds", type=float, default=180.0, help="of timed steps per cell; at least two are timed")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--rate", type=float, help="matrix rate of the device, 10¹² operations per second; default: its data sheet's")
    add("--set", nargs="+", default=(), metavar="KEY=VALUE", help="settings of mmrl's config")
    add("--scratch", type=Path, help="folder for the model (7.5 GB); default: the system's")
    add("--json", type=Path, help="file for the whole report, written after every cell")
    return made


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """The device's name, the rate its maker gives, and the one a large product reaches here; 10¹² per second."""
    cuda = options.device == "cuda"
    name = torch.cuda.get_device_name() if cuda else "cpu"
    sheet = next((rate for part, rate in SHEETS.items() if part in name), None)
    measured = product_rate(options.device)
    return {
        "device": name,
        "rate_measured_tflops": measured,
        "rate_tflops": options.rate or sheet or measured,
        "rate_source": "given" if options.rate else "data sheet" if sheet else "measured",
    }


def product_rate(device: str) -> float:
    """The best of five products of two square matrices, in the number format of the run."""
    edge, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(edge, edge, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):  # the first warms up
        began = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * edge**3 / best / 1e12


def one_cell(
    folder: Path, options: argparse.Namespace, shape: Shape, visual: int, size: int, rate: float
) -> dict[str, Any]:
    """Measure one cell, then set it against the matrix rate."""
    here = folder / f"{visual}x{size}"
    cell = Cell(
        model=str(folder / "model"),
        manifest=str(
            noise_samples(here / "pictures", steps=options.steps + 3, prompts=options.prompts, visual_tokens=visual)
        ),
        folder=str(here),
        prompts=options.prompts,
        group_size=size,
        completion_tokens=options.completion_tokens,
        beta=options.beta,
        freeze_vision=options.freeze_vision,
        rewards=REWARDS,
        threads=options.threads,
        dtype="float32" if options.tiny else "bfloat16",
        device=options.device,
        overrides=tuple(options.set),
    )
    turns = [[tool] for tool in options.tools] if options.apart else [options.tools]
    measured: dict[str, dict[str, Any]] = {}
    for tools in turns:
        measured |= measure(cell, tools, steps=options.steps, seconds=options.seconds)
    flops = needed(
        shape,
        next(iter(measured.values()))["prompt_sizes"],
        group_size=size,
        completion_tokens=options.completion_tokens,
        beta=options.beta,
        frozen=options.freeze_vision,
    )
    for figures in measured.values():
        seconds, per_second = figures["step_seconds"], rate * 1e12
        figures["completion_tokens_per_second"] = options.prompts * size * options.completion_tokens / seconds
        figures["share_needed"] = flops.total / seconds / per_second
        figures["share_computed"] = computed(shape, figures["counters"]["by_pass"]) / seconds / per_second
        update = figures["phases"].get("update")
        figures["share_update"] = flops.update / update / per_second if update else None
        print(f"{visual}x{size}: {seconds:.3f} s", file=sys.stderr, flush=True)
    return {"visual_tokens": visual, "group_size": size, "needed_tflop": flops.total / 1e12, **measured}


def show(report: dict[str, Any]) -> None:
    """One line per cell and tool."""
    place = report["machine"]
    print(
        f"{place['device']}: {place['rate_tflops']:.1f} TFLOP/s ({place['rate_source']}), a large product reaches "
        f"{place['rate_measured_tflops']:.1f}; torch {place['versions']['torch']}, {place['date']}\n"
    )
    head = ("visual", "G", "tool", "step s", "tokens/s", "GiB", "needed", "computed", "update")
    table = []
    for row in report["cells"]:
        for tool in ("mmrl", "trl"):
            if tool in row:
                found = row[tool]
                memory = found["memory"].get("gpu_beyond_mib", found["memory"].get("beyond_mib", float("nan")))
                shares = [found["share_needed"], found["share_computed"], found["share_update"]]
                table.append(
                    (
                        row["visual_tokens"],
                        row["group_size"],
                        tool,
                        round(found["step_seconds"], 3),
                        round(found["completion_tokens_per_second"]),
                        round(memory / 1024, 2),
                        *(f"{share:.1%}" if share is not None else "–" for share in shares),
                    )
                )
    print_table(head, table)


if __name__ == "__main__":
    main()
