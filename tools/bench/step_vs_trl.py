"""One whole GRPO step, mmrl and TRL side by side on the same tiny model: time, memory, and what is computed.

    python tools/bench/step_vs_trl.py                       every cell, with TRL's slow ones: an hour or two
    python tools/bench/step_vs_trl.py --quick               two cells
    python tools/bench/step_vs_trl.py --visual-tokens 256 1024 --group-sizes 8 16
    python tools/bench/step_vs_trl.py --lean                many prompts, four visual tokens: per-call overhead decides

Both tools are loaded, in a process each, and step in turn on the same fresh pictures; the first step stands apart.
What is compared, and what was done to make both sides the same: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
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

VISUAL_TOKENS, GROUP_SIZES = (64, 256, 1024, 4096), (4, 8, 16)
QUICK = ((64, 4), (256, 8))
LEAN = {"prompts": 16, "visual_tokens": 4, "group_size": 8, "completion_tokens": 23}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parser().parse_args(arguments)
    report: dict[str, Any] = {"machine": machine(), "arguments": vars(options) | {"json": str(options.json)}}
    report["cells"] = []
    with scratch_folder() as folder:
        save_tiny_model(folder / "model", seed=0)
        for shape in shapes(options):
            row = one_cell(folder, options, **shape)
            report["cells"].append(row)
            say(row)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))
    show(report)
    return report


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--visual-tokens", type=int, nargs="+", default=VISUAL_TOKENS, help="square numbers, of at least 4")
    add("--group-sizes", type=int, nargs="+", default=GROUP_SIZES)
    add("--prompts", type=int, help="per step; default: 2 up to 256 visual tokens, else 1")
    add("--completion-tokens", type=int, default=64, help="the length of every completion")
    add("--beta", type=float, default=0.04, help="of the divergence from the reference; 0: no reference")
    add("--freeze-vision", action="store_true", help="tower and projector do not train")
    add("--threads", type=int, default=2)
    add("--steps", type=int, default=7, help="timed steps per tool and cell")
    add("--seconds", type=float, default=120.0, help="of timed steps per cell; at least two steps are timed")
    add("--tools", nargs="+", choices=("mmrl", "trl"), default=("mmrl", "trl"))
    add("--skip-trl", nargs="+", default=(), metavar="VxG", help="cells, like 4096x16, where mmrl runs alone")
    add("--set", nargs="+", default=(), metavar="KEY=VALUE", help="settings of mmrl's config")
    add("--quick", action="store_true", help="the cells 64x4 and 256x8 only")
    add("--lean", action="store_true", help="16 prompts, G 8, 4 visual tokens, 23-token completions only")
    add("--json", type=Path, help="file for the whole report, written after every cell")
    return made


def shapes(options: argparse.Namespace) -> list[dict[str, int]]:
    """The sizes of the cells that are asked for."""
    if options.lean:
        return [LEAN]
    pairs = QUICK if options.quick else [(v, g) for v in options.visual_tokens for g in options.group_sizes]
    return [
        {
            "visual_tokens": visual,
            "group_size": size,
            "prompts": options.prompts or (2 if visual <= 256 else 1),
            "completion_tokens": options.completion_tokens,
        }
        for visual, size in pairs
    ]


def one_cell(
    folder: Path,
    options: argparse.Namespace,
    *,
    visual_tokens: int,
    group_size: int,
    prompts: int,
    completion_tokens: int,
) -> dict[str, Any]:
    """Measure one cell with the tools that are asked for."""
    name = f"{visual_tokens}x{group_size}"
    cell_folder = folder / name
    manifest = noise_samples(
        cell_folder / "pictures", steps=options.steps + 3, prompts=prompts, visual_tokens=visual_tokens
    )
    cell = Cell(
        model=str(folder / "model"),
        manifest=str(manifest),
        folder=str(cell_folder),
        prompts=prompts,
        group_size=group_size,
        completion_tokens=completion_tokens,
        beta=options.beta,
        freeze_vision=options.freeze_vision,
        rewards=REWARDS,
        threads=options.threads,
        overrides=tuple(options.set),
    )
    tools = [tool for tool in options.tools if tool == "mmrl" or name not in options.skip_trl]
    measured = measure(cell, tools, steps=options.steps, seconds=options.seconds)
    return {
        "visual_tokens": visual_tokens,
        "group_size": group_size,
        "prompts": prompts,
        "completion_tokens": completion_tokens,
        "trl_skipped": "trl" in options.tools and "trl" not in tools,
        **measured,
    }


def say(row: dict[str, Any]) -> None:
    """One line per cell, as soon as it is measured."""
    times = ", ".join(f"{tool} {row[tool]['step_seconds']:.3f} s" for tool in ("mmrl", "trl") if tool in row)
    print(f"{row['visual_tokens']}x{row['group_size']}: {times}", file=sys.stderr, flush=True)


def show(report: dict[str, Any]) -> None:
    """The report as tables."""
    cells, versions = report["cells"], report["machine"]["versions"]
    print(f"torch {versions['torch']}, transformers {versions['transformers']}, TRL {versions['trl']}")
    print(f"{report['machine']['processor']}, {report['arguments']['threads']} threads, {report['machine']['date']}\n")
    head = ("visual", "G", "prompts", "tokens", "mmrl s", "TRL s", "ratio", "mmrl MiB", "TRL MiB", "ratio", "first s")
    print_table(head, [step_row(row) for row in cells])
    print("\nbeyond the loaded model: MiB. Counted in one step, and how many times the bound:\n")
    columns = ("visual", "G", "tool", "pictures", "×", "patches", "×", "language tokens", "×")
    print_table(columns, [row for cell in cells for row in counter_rows(cell)])
    mine = [row for row in cells if "mmrl" in row]
    if mine:
        print(f"\nbound of the patches: {mine[0]['mmrl']['bound']}.\nmmrl's step by phase, seconds:\n")
        names = [*sorted({name for row in mine for name in row["mmrl"]["phases"]} - {"rest"}), "rest"]
        table = [
            (row["visual_tokens"], row["group_size"], *(round(row["mmrl"]["phases"].get(n, 0.0), 4) for n in names))
            for row in mine
        ]
        print_table(("visual", "G", *names), table)


def step_row(row: dict[str, Any]) -> tuple[Any, ...]:
    ours, theirs = row.get("mmrl"), row.get("trl")
    missing = "skipped" if row["trl_skipped"] else "–"

    def seconds(tool: Any) -> Any:
        return round(tool["step_seconds"], 3) if tool else missing

    def mib(tool: Any) -> Any:
        return round(tool["memory"]["beyond_mib"]) if tool else missing

    faster = smaller = "–"
    if ours and theirs:
        faster = f"{theirs['step_seconds'] / ours['step_seconds']:.2f}"
        smaller = f"{ours['memory']['beyond_mib'] / theirs['memory']['beyond_mib']:.2f}"
    firsts = " / ".join(f"{tool['first_seconds']:.2f}" for tool in (ours, theirs) if tool)
    sizes = (row["visual_tokens"], row["group_size"], row["prompts"], row["completion_tokens"])
    return (*sizes, seconds(ours), seconds(theirs), faster, mib(ours), mib(theirs), smaller, firsts)


def counter_rows(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    found = []
    for tool in ("mmrl", "trl"):
        if tool in row:
            counters = row[tool]["counters"]
            pairs = [(counters[n]["counted"], counters[n]["times"]) for n in ("images", "patches", "tokens")]
            found.append((row["visual_tokens"], row["group_size"], tool, *(value for pair in pairs for value in pair)))
    return found


if __name__ == "__main__":
    main()
