"""How the time and memory of one mmrl step grow with the group, the prompt and the completions.

    python tools/bench/scaling.py                      about ten minutes on two cores
    python tools/bench/scaling.py --axes group --group-sizes 1 4 16
    python tools/bench/scaling.py --quick

Each axis is walked with the others held. `growth` is how much a step grew per unit of growth of the axis, from the row
above: (t₂/t₁ − 1) / (s₂/s₁ − 1); 1 is proportional, 0 is free. The exponent is log(t₂/t₁) / log(s₂/s₁). Sharing the
prompt is worth it when the growth with G stays below half.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is
os.environ.setdefault("TQDM_DISABLE", "1")

from mmrl.cli.console import print_table
from mmrl.policy.tiny import save_tiny_model
from tools.bench.cell import REWARDS, Cell, noise_samples
from tools.bench.machine import machine
from tools.bench.scratch import scratch_folder
from tools.bench.turns import measure

LIMIT = 0.5  # of proportional, for the growth with G
AXES = {"group": "G", "prompt": "visual tokens", "completion": "completion tokens"}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parser().parse_args(arguments)
    report: dict[str, Any] = {"machine": machine(), "arguments": vars(options) | {"json": str(options.json)}}
    report["axes"] = {}
    with scratch_folder() as folder:
        save_tiny_model(folder / "model", seed=0)
        for axis in options.axes:
            points = [one_point(folder, options, axis, size) for size in sizes(options, axis)]
            report["axes"][axis] = with_growth(points)
            if axis == "group":
                report["verdict"] = verdict(report["axes"][axis])
            show(axis, report["axes"][axis], options)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))
    if "verdict" in report:
        print(f"\n{report['verdict']['sentence']}")
    return report


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--axes", nargs="+", choices=tuple(AXES), default=tuple(AXES))
    add("--group-sizes", type=int, nargs="+", default=(1, 2, 4, 8, 16, 32))
    add("--visual-tokens", type=int, nargs="+", default=(16, 64, 256, 1024, 4096), help="square numbers")
    add("--completion-tokens", type=int, nargs="+", default=(16, 32, 64, 128, 256))
    add("--at", type=int, nargs=3, default=(8, 1024, 64), metavar=("G", "V", "C"), help="what is held elsewhere")
    add("--prompts", type=int, default=1, help="per step")
    add("--beta", type=float, default=0.04, help="of the divergence from the reference; 0: no reference")
    add("--freeze-vision", action="store_true")
    add("--threads", type=int, default=2)
    add("--steps", type=int, default=5, help="timed steps per point")
    add("--seconds", type=float, default=60.0, help="of timed steps per point; at least two are timed")
    add("--set", nargs="+", default=(), metavar="KEY=VALUE", help="settings of mmrl's config")
    add("--quick", action="store_true", help="the first three sizes of each axis")
    add("--json", type=Path, help="file for the whole report, written after every axis")
    return made


def sizes(options: argparse.Namespace, axis: str) -> list[int]:
    """Ascending sizes of an axis."""
    asked = {"group": options.group_sizes, "prompt": options.visual_tokens, "completion": options.completion_tokens}
    return sorted(asked[axis])[: 3 if options.quick else None]


def one_point(folder: Path, options: argparse.Namespace, axis: str, size: int) -> dict[str, Any]:
    """Measure one step's time and memory with the axis at `size`."""
    group, visual, completion = options.at
    group = size if axis == "group" else group
    visual = size if axis == "prompt" else visual
    completion = size if axis == "completion" else completion
    here = folder / f"{axis}-{size}"
    manifest = noise_samples(here / "pictures", steps=options.steps + 3, prompts=options.prompts, visual_tokens=visual)
    cell = Cell(
        model=str(folder / "model"),
        manifest=str(manifest),
        folder=str(here),
        prompts=options.prompts,
        group_size=group,
        completion_tokens=completion,
        beta=options.beta,
        freeze_vision=options.freeze_vision,
        rewards=REWARDS,
        threads=options.threads,
        overrides=tuple(options.set),
    )
    measured = measure(cell, ("mmrl",), steps=options.steps, seconds=options.seconds)["mmrl"]
    print(f"{AXES[axis]} {size}: {measured['step_seconds']:.3f} s", file=sys.stderr, flush=True)
    return {"size": size, **measured}


def with_growth(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points with growth and exponent of the time from the one before."""
    found: list[dict[str, Any]] = []
    for point in points:
        row = dict(point)
        if found:
            before = found[-1]
            longer, larger = point["step_seconds"] / before["step_seconds"], point["size"] / before["size"]
            row["growth"] = (longer - 1) / (larger - 1)
            row["exponent"] = math.log(longer) / math.log(larger)
        found.append(row)
    return found


def verdict(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether the growth with G stays below half of proportional, at every stretch and from the first G to the last."""
    if len(rows) < 2:
        return {"below_half": None, "sentence": "one group size says nothing about growth"}
    first, last = rows[0], rows[-1]
    overall = (last["step_seconds"] / first["step_seconds"] - 1) / (last["size"] / first["size"] - 1)
    worst = max(row["growth"] for row in rows[1:])
    below = overall < LIMIT and worst < LIMIT
    return {
        "overall": overall,
        "worst": worst,
        "below_half": below,
        "sentence": (
            f"from G {first['size']} to {last['size']} a step grows by {overall:.2f} of proportional, at most by "
            f"{worst:.2f} between two sizes: {'below' if below else 'NOT below'} half at every stretch"
        ),
    }


def show(axis: str, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """One axis as a table."""
    names = ("G", "visual tokens", "completion tokens")
    held = [f"{name} {value}" for name, value in zip(names, options.at, strict=True) if name != AXES[axis]]
    print(f"\n{', '.join(held)}, {options.prompts} prompts a step, {options.threads} threads:\n")
    head = (
        AXES[axis],
        "step s",
        "growth",
        "exponent",
        "MiB",
        "rollout s",
        "update s",
        "patches",
        "language tokens",
        "×",
    )
    table = []
    for row in rows:
        counters, phases = row["counters"], row["phases"]
        table.append(
            (
                row["size"],
                round(row["step_seconds"], 3),
                f"{row['growth']:.2f}" if "growth" in row else "",
                f"{row['exponent']:.2f}" if "exponent" in row else "",
                round(row["memory"].get("beyond_mib", math.nan)),
                round(phases.get("rollout", 0.0), 3),
                round(phases.get("update", 0.0), 3),
                counters["patches"]["counted"],
                counters["tokens"]["counted"],
                counters["tokens"]["times"],
            )
        )
    print_table(head, table)


if __name__ == "__main__":
    main()
