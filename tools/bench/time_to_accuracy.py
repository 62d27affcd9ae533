"""How long mmrl and TRL take to learn: wall time from the same cold start to the same held-out accuracy.

    python tools/bench/time_to_accuracy.py --folder runs/learning              both tasks: half an hour
    python tools/bench/time_to_accuracy.py --folder runs/learning --tasks digits --seeds 0 1 2

    digits   4 visual tokens; until 85 % of the held-out digits are read
    pages    256 visual tokens; until half of the gap between the start and the supervised ceiling is closed

Same start, rewards, learning rate, group size and prompts per step, samples in the same order. The tools are a process
each and take turns: the one whose clock is behind makes the next step. Evaluation, with one engine on the same held-out
samples, stands still on both clocks; loading does too. A tool that reaches the goal, or its limit of time or steps,
stops; so does one that has taken `--lead` times as long as the other took to reach it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the file can be run as it is
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from mmrl.cli.console import print_table
from mmrl.progress import SilentProgress
from tools.bench.learning_tasks import TASKS, Prepared, prepare
from tools.bench.machine import machine
from tools.bench.workers import Worker


@dataclass(slots=True)
class Learner:
    """One tool on its way."""

    tool: str
    worker: Worker
    seconds: float = 0.0  # of its steps
    steps: int = 0
    curve: list[tuple[float, float]] = field(default_factory=list)  # (seconds, held-out accuracy)
    reached: float | None = None  # seconds at the goal

    def evaluate(self, goal: float) -> None:
        accuracy = self.worker.order("evaluate")["accuracy"]
        self.curve.append((round(self.seconds, 3), accuracy))
        print(f"{self.tool}: step {self.steps}, {self.seconds:.1f} s, {accuracy:.1%}", file=sys.stderr, flush=True)
        if accuracy >= goal and self.reached is None:
            self.reached = self.seconds


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parser().parse_args(arguments)
    report: dict[str, Any] = {"machine": machine(), "arguments": {k: str(v) for k, v in vars(options).items()}}
    report["runs"] = []
    for name in options.tasks:
        for seed in options.seeds:
            folder = options.folder.resolve() / f"{name}-{seed}"
            ready = prepare(
                name,
                folder,
                seed=seed,
                threads=options.threads,
                overrides=tuple(options.set),
                progress=SilentProgress(),
            )
            found = race(changed(ready, options), options)
            report["runs"].append({"task": name, "seed": seed, **found})
            print(f"{name}, seed {seed}: {sentence(found)}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1))
    show(report["runs"])
    return report


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--folder", type=Path, required=True, help="data and cold starts; what is there is not made again")
    add("--tasks", nargs="+", choices=tuple(TASKS), default=tuple(TASKS))
    add("--seeds", type=int, nargs="+", default=(0,))
    add("--tools", nargs="+", choices=("mmrl", "trl"), default=("mmrl", "trl"))
    add("--every", type=int, default=5, help="steps between evaluations")
    add("--seconds", type=float, default=1800.0, help="of steps, per tool and run; then it has not reached the goal")
    add("--steps", type=int, default=600, help="most steps per tool and run")
    add("--lead", type=float, default=10.0, help="times the seconds of the tool that was first; then the other stops")
    add("--learning-rate", type=float, help="of both tools; default: the task's")
    add("--warmup-steps", type=int, help="of both tools; default: the task's")
    add("--group-size", type=int, help="of both tools; default: the task's")
    add("--prompts", type=int, help="per step, of both tools; default: the task's")
    add("--threads", type=int, default=2)
    add("--set", nargs="+", default=(), metavar="KEY=VALUE", help="settings of the cold starts' config")
    add("--json", type=Path, help="file for the whole report, written after every run")
    return made


def changed(ready: Prepared, options: argparse.Namespace) -> Prepared:
    """With the learning rate, warm-up and group size of the command line, where it names them."""
    cell = replace(
        ready.cell,
        learning_rate=options.learning_rate or ready.cell.learning_rate,
        warmup_steps=ready.cell.warmup_steps if options.warmup_steps is None else options.warmup_steps,
        prompts=options.prompts or ready.cell.prompts,
        group_size=options.group_size or ready.cell.group_size,
    )
    return replace(ready, cell=cell)


def race(ready: Prepared, options: argparse.Namespace) -> dict[str, Any]:
    """Step in turn until every tool has reached the goal or its limit."""
    with ExitStack() as stack:
        learners = {}
        for tool in options.tools:
            cell = replace(ready.cell, folder=f"{ready.cell.folder}/{tool}")
            learners[tool] = Learner(tool, stack.enter_context(Worker(tool, cell)))
        for learner in learners.values():
            learner.worker.ready()
            learner.evaluate(ready.goal)
        while going := [learner for learner in learners.values() if goes_on(learner, learners.values(), options)]:
            learner = min(going, key=lambda learner: learner.seconds)
            learner.seconds += learner.worker.order("step")["seconds"]
            learner.steps += 1
            if learner.steps % options.every == 0:
                learner.evaluate(ready.goal)
    return {
        "start": ready.start,
        "ceiling": ready.ceiling,
        "goal": ready.goal,
        "tools": {
            tool: {"seconds": one.reached, "steps": one.steps, "spent_seconds": one.seconds, "curve": one.curve}
            for tool, one in learners.items()
        },
    }


def goes_on(learner: Learner, all_learners: Iterable[Learner], options: argparse.Namespace) -> bool:
    """Whether it has not reached the goal and has time and steps left."""
    reached = [one.reached for one in all_learners if one.reached is not None]
    seconds = min([options.seconds, *(options.lead * one for one in reached)])
    return learner.reached is None and learner.seconds < seconds and learner.steps < options.steps


def sentence(run: dict[str, Any]) -> str:
    """What came out, in words."""
    parts = []
    for tool, found in run["tools"].items():
        best = max(accuracy for _, accuracy in found["curve"])
        reached = f"{found['seconds']:.1f} s" if found["seconds"] is not None else f"not reached (best {best:.1%})"
        parts.append(f"{tool} {reached}, {found['steps']} steps")
    return f"{run['start']:.1%} → {run['goal']:.1%}: " + "; ".join(parts)


def show(runs: Sequence[dict[str, Any]]) -> None:
    """One line per run."""
    head = ("task", "seed", "start", "ceiling", "goal", "mmrl s", "steps", "TRL s", "steps", "times sooner")
    print_table(head, [line(run) for run in runs])


def line(run: dict[str, Any]) -> tuple[Any, ...]:
    """A run's figures; – where a tool did not run, "not in …" where it did not get there in so many seconds."""
    cells: list[Any] = []
    for tool in ("mmrl", "trl"):
        found = run["tools"].get(tool)
        cells.append(_seconds(found) if found else "–")
        cells.append(found["steps"] if found else "–")
    ceiling = "–" if run["ceiling"] is None else f"{run['ceiling']:.1%}"
    return (run["task"], run["seed"], f"{run['start']:.1%}", ceiling, f"{run['goal']:.1%}", *cells, _ratio(run))


def _seconds(found: dict[str, Any]) -> str:
    reached, spent = found["seconds"], found["spent_seconds"]
    return f"not in {spent:.1f}" if reached is None else f"{reached:.1f}"


def _ratio(run: dict[str, Any]) -> str:
    """TRL's seconds over mmrl's; at least so much where TRL was stopped before it got there."""
    ours, theirs = run["tools"].get("mmrl"), run["tools"].get("trl")
    if not ours or not theirs or not ours["seconds"]:
        return "–"
    more = "> " if theirs["seconds"] is None else ""
    return f"{more}{(theirs['seconds'] or theirs['spent_seconds']) / ours['seconds']:.2f}"


if __name__ == "__main__":
    main()
