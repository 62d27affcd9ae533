"""mmrl's side of a comparison: the real training loop with its real parts, one step per order. See `gate.py`."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmrl import build
from mmrl.algorithms.build import build_algorithm
from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.progress import SilentProgress
from mmrl.training.loop import train
from mmrl.types import Sample, ScoredGroup
from tools.bench.cell import Cell
from tools.bench.counting import Counts
from tools.bench.gate import Gate
from tools.bench.held_out import HeldOut

STEPS = 1_000_000  # more than will ever be ordered


def main() -> None:
    cell = Cell.load(sys.argv[1])
    config = config_of(cell)
    model = build.load_policy(config, cell.model)
    if cell.exact_length:
        ban_end_token(model)
    samples = cell.samples()
    counts = Counts()
    held_out = HeldOut.of(cell, config)
    gate = Gate(counts, evaluate=None if held_out is None else lambda: held_out.accuracy(model.policy.model))
    with build.build_scorer(config, samples) as scorer:
        trainer = build.build_trainer(
            config,
            run_dir=Path(cell.folder),
            model=model,
            train=samples,
            validation=[],
            scorer=scorer,
            progress=SilentProgress(),
        )
        prompts = prompt_sizes(build.build_renderer(config, model), samples[-cell.prompts :])
        clock = PhaseClock()
        counts.policy(model.policy)
        counts.images_of(model.processor.image_processor)
        watch(trainer, clock, counts)
        trainer = replace(trainer, sampler=InOrder(samples), progress=Stepping(gate, clock))
        gate.ready(prompts=prompts, model_mib=sum(p.nbytes for p in model.policy.parameters()) / 2**20)
        train(trainer)


def config_of(cell: Cell) -> Config:
    """The cell as a config of mmrl; everything that it does not say is mmrl's default."""
    algorithm: dict[str, Any] = {"base": "grpo"}
    algorithm["divergence"] = {"type": "k3", "coef": cell.beta} if cell.beta else {"type": "none"}
    config = Config.model_validate(
        {
            "run": {"name": "bench", "folder": cell.folder, "seed": cell.seed},
            "model": {"path": cell.model},
            "data": {"train": cell.manifest},
            "prompt": {"mode": cell.mode},
            "rewards": cell.rewards,
            "algorithm": algorithm,
            "rollout": {
                "prompts_per_step": cell.prompts,
                "group_size": cell.group_size,
                "max_tokens": cell.completion_tokens,
                "max_refills": 0,
            },
            "train": {
                "steps": STEPS,
                "learning_rate": cell.learning_rate,
                "warmup_steps": cell.warmup_steps,
                "checkpoint_every": STEPS,
                "freeze": ["vision", "projector"] if cell.freeze_vision else [],
            },
            "backend": {"device": cell.device, "dtype": cell.dtype, "threads": cell.threads},
        }
    )
    config = changed(config, cell.overrides)
    build_algorithm(config.algorithm)  # an unknown part is an error before anything is loaded
    return config


def ban_end_token(model: Any) -> None:
    """No completion ends before its last token: the end token becomes one that is never sampled."""
    video = model.policy.config.video_token_id
    tokenizer = model.processor.tokenizer
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(video)
    model.policy.model.generation_config.eos_token_id = video


def prompt_sizes(renderer: Any, samples: Sequence[Sample]) -> list[tuple[int, int]]:
    """(prompt tokens, vision patches) of each sample."""
    prompts, dropped = renderer.render(samples)
    assert not dropped, dropped
    return [(len(p.token_ids), 0 if p.vision is None else len(p.vision.patches)) for p in prompts]


class InOrder:
    """The samples as the manifest has them, from the start again after the last: as TRL takes them unshuffled."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = list(samples)
        self._drawn = 0

    def next(self, count: int) -> list[Sample]:
        first, self._drawn = self._drawn, self._drawn + count
        return [self._samples[i % len(self._samples)] for i in range(first, self._drawn)]

    def observe(self, scored: Sequence[ScoredGroup]) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {"drawn": self._drawn}

    def load_state(self, state: dict[str, Any]) -> None:
        self._drawn = int(state["drawn"])


class PhaseClock:
    """Seconds of the loop's own thread by phase; what other threads do meanwhile costs the step nothing."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._thread = threading.get_ident()

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                if threading.get_ident() == self._thread:
                    self._seconds[phase] += time.perf_counter() - began

        return call

    def take(self) -> dict[str, float]:
        """Of the step that ends now."""
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds


def watch(trainer: Any, clock: PhaseClock, counts: Counts) -> None:
    """Put the clock around the parts of a step."""
    trainer.renderer.render = clock.timed("render", trainer.renderer.render)
    trainer.engine.generate = counts.generation(clock.timed("rollout", trainer.engine.generate))
    backend, scorer = trainer.backend, trainer.scorer
    backend.outputs = clock.timed("old_and_reference", backend.outputs)
    for part in ("forward", "backward", "optimizer_step"):
        setattr(backend, part, clock.timed("update", getattr(backend, part)))
    scorer.score = clock.timed("reward", scorer.score)
    submit = scorer.score_async

    def score_async(groups: Any) -> Any:
        future = submit(groups)
        future.result = clock.timed("reward", future.result)  # only the waiting counts
        return future

    scorer.score_async = score_async


class Stepping:
    """The loop's progress display, which is where every step ends."""

    def __init__(self, gate: Gate, clock: PhaseClock) -> None:
        self._gate = gate
        self._clock = clock

    def note(self, text: str) -> None:
        return None

    @contextmanager
    def task(self, label: str, total: int, *, done: int = 0) -> Iterator[Stepping]:
        yield self

    def advance(self, units: int = 1, **figures: float | str) -> None:
        self._gate.step_done(phases=self._clock.take(), reward=figures.get("reward"))


if __name__ == "__main__":
    torch.set_num_threads(Cell.load(sys.argv[1]).threads)
    main()
