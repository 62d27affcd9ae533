"""This machine's own times: the model, or shallow copies of it, takes a few real steps with random weights.

A small model is tried as it is. Of a larger one's decoder one and three layers are, of its tower one block and three,
as wide as they are; everything else is the run's: its samples or ones of the same size, its rewards where it has
samples, algorithm, engine and backend. Each part of a step grows with the layers by the same time for each, so that
three depths tell what all layers take:

    t(L, V) = t(1, 1) + (L − 1) · (t(2, 1) − t(1, 1)) + (V − 1) · (t(1, 2) − t(1, 1))

It runs in a child process, whose own memory tells what Python, the libraries and the allocator hold besides tensors.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mmrl.child import Child, connected, exit_text
from mmrl.config.schema import Config
from mmrl.errors import RunError

STEPS = 5  # of each depth; the first is not counted
MOST_SECONDS = 120.0  # for all of it
_STANDSTILL = 1e-12  # a learning rate, which must be above 0
PARTS = ("vision and prefill", "decode", "old and reference passes", "update", "optimiser", "rest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Of a shallow copy."""

    layers: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """To the child: one depth."""

    config: dict[str, Any]  # the run's, as its dump
    depth: Depth
    visual: int  # tokens of each prompt's picture, where there are no samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """From the child."""

    seconds: Mapping[str, float]  # by PARTS, of a step
    peak_bytes: int  # of the process so far


def depths(layers: int, blocks: int, *, whole: bool = False) -> list[Depth]:
    """Which are tried: two where each grows, fewer where there is nothing to grow; `whole`: all layers at once."""
    if whole:
        return [Depth(layers=layers, blocks=blocks)]
    found = [Depth(layers=1, blocks=1)]
    if layers > 1:
        found.append(Depth(layers=min(layers, 3), blocks=1))
    if blocks > 1:
        found.append(Depth(layers=1, blocks=min(blocks, 3)))
    return found


def extrapolated(tried: Mapping[Depth, Mapping[str, float]], *, layers: int, blocks: int) -> dict[str, float]:
    """Seconds of each part with all layers and blocks."""
    if (whole := Depth(layers=layers, blocks=blocks)) in tried:
        return dict(tried[whole])
    one = tried[Depth(layers=1, blocks=1)]
    found = {}
    for part, base in one.items():
        total = base
        for depth, seconds in tried.items():
            if depth.layers > 1:
                total += (layers - 1) * max(0.0, seconds[part] - base) / (depth.layers - 1)
            if depth.blocks > 1:
                total += (blocks - 1) * max(0.0, seconds[part] - base) / (depth.blocks - 1)
        found[part] = total
    return found


def probe(config: Config, *, layers: int, blocks: int, visual: int, whole: bool) -> tuple[dict[str, float], int]:
    """(seconds by part of a step of the whole model, most bytes the child held at the depth it tried first).

    `whole`: the model is small enough to take steps as it is.
    """
    child = Child("mmrl.forecast.probe:serve")
    until = time.monotonic() + MOST_SECONDS
    answers: dict[Depth, Mapping[str, float]] = {}
    first = 0
    try:
        for depth in depths(layers, blocks, whole=whole):
            child.connection.send(Trial(config=config.model_dump(mode="json"), depth=depth, visual=visual))
            if not child.connection.poll(max(0.0, until - time.monotonic())):
                raise RunError(f"the probe was not done within {MOST_SECONDS:g} seconds; plan without --probe")
            try:
                answer = child.connection.recv()
            except (EOFError, OSError) as error:
                raise RunError(f"the probe ended with {exit_text(child.kill())}; plan without --probe") from error
            if isinstance(answer, Exception):
                raise answer
            first = first or answer.peak_bytes
            answers[depth] = answer.seconds
    finally:
        child.kill()
    return extrapolated(answers, layers=layers, blocks=blocks), first


def serve(descriptor: int) -> None:
    """For `mmrl.child.Child`: trials until the parent hangs up."""
    connection = connected(descriptor)
    while True:
        try:
            trial: Trial = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(tried(trial))
        except OSError:
            return
        except Exception as error:
            connection.send(RunError(f"the probe failed ({type(error).__name__}: {error}); plan without --probe"))


def tried(trial: Trial) -> Tried:
    """A few steps at one depth."""
    from mmrl import build
    from mmrl.algorithms.build import build_algorithm
    from mmrl.memory import peak_memory_mib
    from mmrl.progress import SilentProgress
    from mmrl.training.loop import train

    with tempfile.TemporaryDirectory(prefix="mmrl-probe-") as name:
        folder = Path(name)
        config, samples = _small(trial, folder)
        build_algorithm(config.algorithm)
        model = build.load_policy(config, str(folder / "model"), to_train=True)
        with build.build_scorer(config, samples) as scorer:
            trainer = build.build_trainer(
                config,
                run_dir=folder,
                model=model,
                train=samples,
                validation=[],
                scorer=scorer,
                progress=SilentProgress(),
            )
            clock = Clock()
            clock.watch(trainer)
            train(trainer)
            build.close_engine(trainer.engine)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        steps = [row["time/step_seconds"] for row in rows]
        return Tried(seconds=clock.parts(steps), peak_bytes=round(peak_memory_mib() * 2**20))


class Clock:
    """Seconds of each part, step by step, by watching what the loop calls."""

    def __init__(self) -> None:
        self._steps: list[dict[str, float]] = []

    def watch(self, trainer: Any) -> None:
        """Put itself around the trainer's engine and backend."""
        backend, engine = trainer.backend, trainer.engine
        begin = backend.begin_step

        def begin_step() -> None:
            self._steps.append(defaultdict(float))
            begin()

        backend.begin_step = begin_step
        for name, part in (
            ("outputs", "old and reference passes"),
            ("forward", "update"),
            ("backward", "update"),
            ("optimizer_step", "optimiser"),
        ):
            setattr(backend, name, self._timed(part, getattr(backend, name)))
        engine.generate = self._timed("rollout", engine.generate)
        if hasattr(engine, "_prefill"):
            engine._prefill = self._timed("vision and prefill", engine._prefill)

    def _timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                if self._steps:
                    self._steps[-1][part] += time.perf_counter() - began

        return timed

    def parts(self, steps: Sequence[float]) -> dict[str, float]:
        """Of a usual step; `steps`: seconds of each, the first of which does not count."""
        rows = []
        for whole, row in list(zip(steps, self._steps, strict=True))[1:]:
            known = {part: row.get(part, 0.0) for part in PARTS if part not in ("decode", "rest")}
            known["decode"] = row["rollout"] - known["vision and prefill"]
            rows.append(known | {"rest": max(0.0, whole - sum(known.values()))})
        return {part: median(row[part] for row in rows) for part in PARTS}


def _small(trial: Trial, folder: Path) -> tuple[Config, list[Any]]:
    """The run's config for a shallow copy of its model, which is written to the folder, and its samples."""
    from mmrl.data.manifest import read_manifest

    run = Config.model_validate(trial.config)
    dump = run.model_dump(mode="json")
    manifest = samples_file(run)
    samples = read_manifest(str(manifest)) if manifest is not None else _noise(run, folder, trial.visual)
    if manifest is None:
        dump["rewards"] = {"default": [{"name": "choice"}, {"name": "format", "weight": 0.2}]}
    _write_model(run, trial.depth, folder / "model")
    dump["run"] |= {"name": "probe", "folder": str(folder)}
    dump["model"] |= {"tiny": None, "path": str(folder / "model")}
    dump["data"] = {"train": str(manifest or folder / "manifest.jsonl")}
    dump["train"] |= {"steps": STEPS, "checkpoint_every": STEPS + 1, "keep_best": None}
    # Nothing is to be learnt: random weights that are trained soon write less, and the steps would differ.
    dump["train"] |= {"learning_rate": _STANDSTILL, "part_learning_rates": {}}
    # Random weights are right nowhere: filters would leave no group. How often a run asks again no plan can know.
    algorithm = {"base": run.algorithm} if isinstance(run.algorithm, str) else run.algorithm
    dump["algorithm"] = {**algorithm, "filters": []}
    dump["evaluation"] |= {"every": 0}
    dump["tracking"] |= {"to": []}
    dump["sft"] = dump["screening"] = None
    dump["rollout"] |= {"engine": "transformers"}
    return Config.model_validate(dump), samples


def samples_file(config: Config) -> Path | None:
    """The manifest to train on, where it is there already."""
    run = Path(config.run.folder) / config.run.name / "data" / "train.jsonl"
    for path in (Path(config.data.train) if config.data.train is not None else None, run):
        if path is not None and path.is_file():
            return path
    return None


def _write_model(config: Config, depth: Depth, out: Path) -> None:
    from mmrl.policy.skeleton import save_shallow
    from mmrl.policy.tiny import save_tiny_model

    tiny = config.model.tiny
    if tiny is not None:
        save_tiny_model(out, **{**tiny.model_dump(), "layers": depth.layers, "vision_depth": depth.blocks})
    else:
        assert config.model.path is not None
        save_shallow(config.model.path, out, layers=depth.layers, blocks=depth.blocks)


def _noise(config: Config, folder: Path, visual: int) -> list[Any]:
    """Samples with a picture each of so many visual tokens, or text only."""
    import numpy as np
    from PIL import Image

    from mmrl.data.manifest import write_manifest
    from mmrl.types import Answer, Media, Sample

    random = np.random.default_rng(0)
    side = max(2, round(math.sqrt(visual))) * 28
    samples = []
    for i in range(2 * config.rollout.prompts_per_step):
        media: tuple[Media, ...] = ()
        if visual:
            path = folder / f"{i}.png"
            Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
            media = (Media(type="image", path=str(path)),)
        choices, answer = ("yes", "no"), Answer(type="choice", value="A")
        samples.append(
            Sample(id=str(i), task="default", question="Is it?", media=media, choices=choices, answer=answer)
        )
    write_manifest(folder / "manifest.jsonl", samples)
    return samples
