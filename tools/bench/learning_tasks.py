"""The tasks of `time_to_accuracy.py`: their data, their cold start, and which accuracy is the goal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmrl
from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.curriculum.shuffled import Shuffled
from mmrl.data.manifest import read_manifest, write_manifest
from mmrl.pipeline.stages import cold_start_stage, prepare_data
from mmrl.progress import Progress
from tools.bench.cell import Cell
from tools.bench.digit_pages import write_pages
from tools.bench.held_out import evaluated

QUICKSTART = Path(mmrl.__file__).parents[1] / "configs" / "quickstart" / "digits.yaml"
Data = Callable[[Config, Path, Progress], tuple[Path, Path]]  # → manifests of training and held-out samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is learned, from which start, in what steps, and how far."""

    title: str
    data: Data
    cold_start: tuple[str, ...]  # overrides of the quickstart's config for the weak start
    ceiling: tuple[str, ...]  # and for the best that supervised training of the same model reaches
    goal: float | None  # accuracy to reach; None: half-way from the start to the ceiling
    prompts: int
    group_size: int
    max_tokens: int
    learning_rate: float
    warmup_steps: int
    rows_at_once: int | None  # of TRL's update: what it is fastest with
    held_out: int  # samples


def digits(config: Config, folder: Path, progress: Progress) -> tuple[Path, Path]:
    """The quickstart's digits. Held out are its validation and test samples together."""
    splits = prepare_data(config, folder, progress)
    write_manifest(folder / "held_out.jsonl", [*splits.test, *splits.validation])
    write_manifest(folder / "train.jsonl", splits.train)
    return folder / "train.jsonl", folder / "held_out.jsonl"


def pages(config: Config, folder: Path, progress: Progress) -> tuple[Path, Path]:
    """The same digits, each written all over a 448×448 picture; the same split."""
    splits = prepare_data(config, folder / "digits", progress)
    progress.note("writing pages")
    held_out = [*splits.test, *splits.validation]
    return write_pages(splits.train, folder / "train", seed=1), write_pages(held_out, folder / "held_out", seed=2)


TASKS: dict[str, Task] = {
    "digits": Task(
        title="handwritten digits, 4 visual tokens",
        data=digits,
        cold_start=(),
        ceiling=(),
        goal=0.85,
        prompts=24,
        group_size=8,
        max_tokens=32,
        learning_rate=2e-4,
        warmup_steps=0,
        rows_at_once=None,
        held_out=300,
    ),
    "pages": Task(
        title="pages full of one handwritten digit, 256 visual tokens",
        data=pages,
        cold_start=("sft.samples=40", "sft.steps=120", "sft.samples_per_step=16"),
        ceiling=("sft.samples=1200", "sft.steps=250", "sft.samples_per_step=16"),
        goal=None,
        prompts=24,
        group_size=8,
        max_tokens=32,
        learning_rate=2e-4,
        warmup_steps=10,
        rows_at_once=48,
        held_out=100,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A task ready to be learned."""

    cell: Cell
    start: float  # held-out accuracy of the cold start
    ceiling: float | None  # of the supervised model; None where the goal is absolute
    goal: float


def prepare(
    name: str, folder: Path, *, seed: int, threads: int, overrides: tuple[str, ...], progress: Progress
) -> Prepared:
    """Data, cold start and goal of a task; what lies in `folder` from an earlier call is taken as it is."""
    task = TASKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    base = (f"run.folder={folder}", f"run.seed={seed}", f"backend.threads={threads}", *overrides)
    config = load_config(QUICKSTART, [*base, "run.name=data"])
    train, held_out = task.data(config, folder / "data", progress)
    limited = folder / "limited.jsonl"
    write_manifest(limited, read_manifest(held_out)[: task.held_out])
    start = _supervised(folder, "start", [*base, *task.cold_start], train, limited, progress)
    ceiling = None
    if task.goal is None:
        ceiling = _supervised(folder, "ceiling", [*base, *task.ceiling], train, limited, progress)
    ordered = folder / "ordered.jsonl"
    samples = read_manifest(train)
    whole_steps = len(samples) // task.prompts * task.prompts  # TRL leaves the rest of an epoch out
    write_manifest(ordered, Shuffled(samples, seed=seed).next(whole_steps))
    cell = Cell(
        model=str(folder / "start" / "cold_start"),
        manifest=str(ordered),
        folder=str(folder / "work"),
        prompts=task.prompts,
        group_size=task.group_size,
        completion_tokens=task.max_tokens,
        exact_length=False,
        beta=0.0,
        learning_rate=task.learning_rate,
        warmup_steps=task.warmup_steps,
        rows_at_once=task.rows_at_once,
        rewards=rewards_of(config),
        threads=threads,
        evaluation=str(limited),
        seed=seed,
    )
    goal = task.goal if task.goal is not None else start + ((ceiling or 0.0) - start) / 2
    return Prepared(cell=cell, start=start, ceiling=ceiling, goal=goal)


def rewards_of(config: Config) -> dict[str, list[dict[str, Any]]]:
    """The config's reward sets as plain values."""
    return {
        task: [use.model_dump(mode="json", exclude_none=True) for use in uses] for task, uses in config.rewards.items()
    }


def _supervised(
    folder: Path, name: str, overrides: list[str], train: Path, held_out: Path, progress: Progress
) -> float:
    """Held-out accuracy after a cold start with these overrides; trains it unless it is there."""
    result = folder / f"{name}.json"
    if not result.is_file():
        data = ["data.recipe=null", f"data.train={train}"]
        config = load_config(QUICKSTART, [*overrides, *data, f"run.name={name}"])
        model = cold_start_stage(config, out=None, overwrite=True, progress=progress)
        accuracy = evaluated(config, str(model), read_manifest(held_out))
        result.write_text(json.dumps({"accuracy": accuracy}))
    return float(json.loads(result.read_text())["accuracy"])
