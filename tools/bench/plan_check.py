"""Is what `mmrl plan` says true? Plans of the tiny model beside real runs of the same configs, each in a fresh process.

    python tools/bench/plan_check.py --json plan.json
    python tools/bench/plan_check.py --cases plain deep --rounds 3
    python tools/bench/plan_check.py --memory-only --rounds 1 --steps 4     on a machine that is busy

Per case, in turns: `mmrl plan --no-probe`, `mmrl plan --probe` (of one rank, without vLLM), `mmrl train`. Compared: the
most memory of the process (of two ranks, the first's), what of it is beyond the libraries (the same process before it
has a model), and the seconds of a step: the median of all steps of all rounds but each round's first. On a machine that
does anything else beside, times are not worth comparing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is

from mmrl.cli.console import print_table
from tools.bench.cell import REWARDS, noise_samples
from tools.bench.machine import machine

PROMPTS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """What is planned and run."""

    visual: int = 64  # tokens of a prompt
    overrides: tuple[str, ...] = ()  # of BASE
    ranks: int = 1


# 20 million parameters: enough for what ranks share to be seen beside what comes and goes.
WIDE = ("model.tiny.layers=8", "model.tiny.vision_depth=4", "model.tiny.hidden_size=512")
DEEPSPEED = (*WIDE, "backend.type=deepspeed")
CASES = {
    "plain": Case(),
    "groups": Case(overrides=("rollout.group_size=16",)),
    "long": Case(256, ("rollout.max_tokens=128",)),
    "pictures": Case(1024, ("rollout.prompts_per_step=4",)),
    "deep": Case(overrides=("model.tiny.layers=8", "model.tiny.vision_depth=4", "model.tiny.hidden_size=256")),
    "checkpointing": Case(256, ("backend.gradient_checkpointing=true", "rollout.max_tokens=96")),
    "lora": Case(overrides=("train.lora={rank: 8}",)),
    "frozen": Case(256, ("train.freeze=[vision, projector]",)),
    "small passes": Case(256, ("train.micro_batch_tokens=1024",)),
    "bfloat16": Case(overrides=("backend.dtype=bfloat16",)),
    "two ranks": Case(overrides=WIDE, ranks=2),
    "ZeRO-1": Case(overrides=(*DEEPSPEED, "backend.zero_stage=1"), ranks=2),
    "ZeRO-2": Case(overrides=(*DEEPSPEED, "backend.zero_stage=2"), ranks=2),
    "ZeRO-3": Case(overrides=(*DEEPSPEED, "backend.zero_stage=3"), ranks=2),
    "vllm": Case(overrides=("rollout.engine=vllm", "rollout.vllm.max_model_len=512")),
}
BASE: dict[str, Any] = {
    "model": {"tiny": {"family": "qwen2_5_vl"}},
    "rewards": REWARDS,
    "algorithm": {"base": "grpo", "divergence": {"type": "k3", "coef": 0.04}},
    "rollout": {"prompts_per_step": PROMPTS, "group_size": 8, "max_tokens": 64, "max_refills": 0},
    # Random weights that learn write less from step to step, and a plan cannot know how much less.
    "train": {"learning_rate": 1e-12, "checkpoint_every": 1000},
    "tracking": {"to": []},
}
ASKED = 0.15  # how far off a prediction may be


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parser().parse_args(arguments)
    report: dict[str, Any] = {"machine": machine(), "cases": {}}
    with tempfile.TemporaryDirectory(prefix="mmrl-plan-check-") as name:
        for case in options.cases:
            report["cases"][case] = checked(Path(name), case, options)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))
    show(report)
    return report


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    made.add_argument("--steps", type=int, default=8, help="of the real run; the first is not timed")
    made.add_argument("--rounds", type=int, default=2, help="plan, probe, run: so often")
    made.add_argument("--memory-only", action="store_true", help="no probes, and nothing said of times")
    made.add_argument("--json", type=Path, help="write the report there, after every case")
    return made


def checked(folder: Path, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Predicted and measured, MiB and seconds."""
    asked = CASES[case]
    place = folder / case.replace(" ", "-")
    place.mkdir()
    config = _config(place, asked.visual, options.steps)
    planned_for = ("plan", str(config), "--json", "--gpus", str(asked.ranks), *asked.overrides)
    timed = not options.memory_only and asked.ranks == 1 and "rollout.engine=vllm" not in asked.overrides
    plans: list[dict[str, Any]] = []
    probes: list[dict[str, Any]] = []
    peaks: list[float] = []
    seconds: list[float] = []
    for round_ in range(options.rounds):
        plans.append(json.loads(_mmrl(*planned_for, "--no-probe")))
        if timed:
            probes.append(json.loads(_mmrl(*planned_for, "--probe")))
        _mmrl("train", str(config), "-q", *asked.overrides, f"run.name=run{round_}", ranks=asked.ranks)
        lines = (place / f"run{round_}" / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        peaks.append(max(row["memory/peak_mib"] for row in rows))
        seconds += [row["time/step_seconds"] for row in rows[1:]]
    base = median(plan["base_bytes"] for plan in plans) / 2**20
    planned = median(plan["peak_bytes"] for plan in plans) / 2**20
    return {
        "predicted_mib": planned,
        "measured_mib": median(peaks),
        "predicted_beyond_mib": planned - base,
        "measured_beyond_mib": median(peaks) - base,
        "predicted_seconds": median(plan["step_seconds"] for plan in plans),
        "probed_seconds": median(probe["step_seconds"] for probe in probes) if probes else None,
        "measured_seconds": median(seconds),
        "plans": plans,
        "probes": probes,
        "all_peaks_mib": peaks,
        "all_seconds": seconds,
    }


def _config(place: Path, visual: int, steps: int) -> Path:
    manifest = noise_samples(place / "media", steps=steps, prompts=PROMPTS, visual_tokens=visual)
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[PROMPTS:]) + "\n")  # without the warm-up's smaller pictures
    run = {"name": "run", "folder": str(place)}
    whole = {**BASE, "run": run, "data": {"train": str(manifest)}, "train": {**BASE["train"], "steps": steps}}
    config = place / "config.yaml"
    config.write_text(yaml.safe_dump({**whole, "backend": {"device": "cpu", "threads": 1}}))
    return config


def _mmrl(*arguments: str, ranks: int = 1) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)) if ranks > 1 else ()
    command = [sys.executable, *launcher, "-m", "mmrl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"mmrl {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def show(report: dict[str, Any]) -> None:
    """The table."""
    rows = []
    for case, found in report["cases"].items():
        cells: list[Any] = [case]
        for predicted, measured in (
            ("predicted_mib", "measured_mib"),
            ("predicted_beyond_mib", "measured_beyond_mib"),
            ("probed_seconds", "measured_seconds"),
        ):
            if found[predicted] is None:
                cells += ["–"] * 3
                continue
            off = found[predicted] / found[measured] - 1
            cells += [
                f"{found[predicted]:.4g}",
                f"{found[measured]:.4g}",
                f"{off:+.0%}{'' if abs(off) <= ASKED else ' !'}",
            ]
        rows.append([*cells, f"{found['predicted_seconds']:.3g}"])
    print_table(
        (
            *("case", "plan MiB", "run MiB", "off"),
            *("beyond libraries, plan", "run", "off"),
            *("probe s", "run s", "off", "plan s"),
        ),
        rows,
    )


if __name__ == "__main__":
    main()
