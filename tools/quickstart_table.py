"""Runs the quickstart with several seeds and prints the README's table: accuracy before and after, form, memory.

    python tools/quickstart_table.py --seeds 0 1 2 --folder runs/seeds

A run that is already in the folder is not done again, so the table can be printed anew in a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart" / "digits.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    measured = [report_of(arguments.folder, seed) for seed in arguments.seeds]
    reports = [row for row, _ in measured]
    print("| seed | before | after | format before | peak memory |")
    print("|---|---|---|---|---|")
    for seed, row in zip(arguments.seeds, reports, strict=True):
        print(f"| {seed} | {line(row)} |")
    columns = list(zip(*reports, strict=True))
    print(f"| mean | {line([fmean(column) for column in columns])} |")
    low, high = cells([min(column) for column in columns]), cells([max(column) for column in columns])
    print(f"| range | {' | '.join(f'{a} – {b}' for a, b in zip(low, high, strict=True))} |")
    print("\nminutes per run:", ", ".join(f"{minutes:.1f}" for _, minutes in measured))


def report_of(folder: Path, seed: int) -> tuple[list[float], float]:
    """(accuracy before, after, format before, GiB) and minutes of one run; runs it where it is missing."""
    name = f"seed-{seed}"
    if not (folder / name / "report.json").is_file():
        overrides = [f"run.folder={folder}", f"run.name={name}", f"run.seed={seed}"]
        resume = ["--resume"] if (folder / name).exists() else []
        subprocess.run([sys.executable, "-m", "mmrl", "run", str(CONFIG), *overrides, *resume], check=True)
    report: dict[str, Any] = json.loads((folder / name / "report.json").read_text())
    before, after = report["overall"]["before"], report["overall"]["after"]
    stages = report["facts"]["stages"].values()
    row = [
        before["accuracy"]["value"],
        after["accuracy"]["value"],
        before["format_rate"],
        max(stage["peak_mib"] for stage in stages) / 1024,
    ]
    return row, sum(stage["seconds"] for stage in stages) / 60


def cells(row: Sequence[float]) -> list[str]:
    """Each figure with its unit."""
    before, after, form, memory = row
    return [f"{before:.1%}", f"{after:.1%}", f"{form:.1%}", f"{memory:.2f} GiB"]


def line(row: Sequence[float]) -> str:
    return " | ".join(cells(row))


if __name__ == "__main__":
    main()
