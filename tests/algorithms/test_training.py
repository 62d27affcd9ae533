"""Every entry trains a real tiny model: finite at each step. References move as they say, and resume exactly."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl import build
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.config.schema import Config
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.training.checkpoint import checkpoints, load_trainer_state
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics, reproducible
from mmrl.types import Sample
from tests import toy

Make = Callable[..., Trainer]
PAGES: dict[str, str] = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "write_algorithm_pages.py"))["pages"]()


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, pictures: list[Path]) -> Make:
    samples = [toy.choice_sample(f"s{i}", [pictures[i % 4]], answer="ABCD"[i % 4]) for i in range(4)]

    def trainer(
        algorithm: str | Mapping[str, Any], *, name: str = "run", steps: int, model: Path | None = None, **keys: Any
    ) -> Trainer:
        config = Config.model_validate(
            {
                "run": {"name": name, "folder": str(tmp_path), "seed": 3},
                "model": {"path": str(tiny_folder)},
                "data": {"train": "unused"},
                "rewards": {"default": [{"path": "tests.algorithms.even_reward:even"}]},
                "algorithm": algorithm if isinstance(algorithm, str) else dict(algorithm),
                "prompt": {"mode": "vanilla"},  # a demonstrated answer is then two tokens long
                "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 6},
                "train": {"steps": steps, "learning_rate": 1e-3, "minibatches": 2, **keys},
            }
        )
        run_dir = tmp_path / name
        run_dir.mkdir(exist_ok=True)
        train_samples: list[Sample] = list(samples)
        return build.build_trainer(
            config,
            run_dir=run_dir,
            model=load_model(str(model or tiny_folder)),
            train=train_samples,
            validation=[],
            scorer=build.build_scorer(config, train_samples),
            progress=SilentProgress(),
        )

    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_entry_trains_for_twenty_steps(name: str, make: Make) -> None:
    trainer = make(name, steps=20)
    before = [value.clone() for _, value in trainer.backend.weights()]
    train(replace(trainer, algorithm=replace(trainer.algorithm, filters=())))
    logged = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert len(logged) == 20
    explained = PAGES[f"{name}.md"].split("## Metrics")[1]
    for logged_name in {key for row in logged for key in row if key.split("/")[0] in ("credit", "loss")}:
        assert f"`{logged_name}`" in explained, f"the page of {name} does not explain {logged_name}"
    watched = ("loss/total", "optim/grad_norm", "policy/ratio_max", "policy/entropy_mean")
    assert all(row[key] is not None and math.isfinite(row[key]) for row in logged for key in watched)
    assert all(row["policy/ratio_max"] < 100 for row in logged)
    assert all(row.get("policy/kl_mean", 0.0) is not None for row in logged)
    after = [value for _, value in trainer.backend.weights()]
    if any(row["optim/grad_norm"] > 0 for row in logged):
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


RESUMED = {
    "ema": {"base": "grpo_care", "reference": {"every": 2}},
    "periodic": {"base": "grpo", "reference": {"type": "periodic", "every": 3}},
    "elastic": {"base": "elastic_reset", "reference": {"every": 3}},
    "tracker": {"base": "spo"},
    "frozen": {"base": "apo"},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, make: Make) -> None:
    """Metrics and weights, bit for bit: references, averages and what adaptive parts know are in the checkpoint."""
    straight = make(RESUMED[name], name="straight", steps=4)
    train(straight)
    killed = make(RESUMED[name], name="killed", steps=4)
    train(replace(killed, settings=replace(killed.settings, steps=2)))
    [saved] = checkpoints(killed.run_dir)
    resumed = make(RESUMED[name], name="killed", steps=4, model=saved.folder)
    start = load_trainer_state(saved, backend=resumed.backend, sampler=resumed.sampler, memory=resumed.memory)
    train(resumed, start=start)
    rows = [[reproducible(r) for r in read_metrics(t.run_dir / "metrics.jsonl")] for t in (straight, resumed)]
    assert rows[0][2:] == rows[1][2:]
    files = [checkpoints(t.run_dir)[-1].folder / "model.safetensors" for t in (straight, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    if name == "tracker":
        assert len(resumed.memory.known["value_tracker"]) == 4


@pytest.mark.parametrize("name", ["drpo", "chi_squared"])
def test_couplings_do_not_depend_on_micro_batches(name: str, make: Make) -> None:
    """One run in a single micro-batch, one in as many as there are parts: the same metrics and weights."""
    runs = []
    for budget in (100_000, 1):
        trainer = make(name, name=f"budget-{budget}", steps=1, micro_batch_tokens=budget)
        train(trainer)
        row = read_metrics(trainer.run_dir / "metrics.jsonl")[0]
        runs.append((row["loss/surrogate"], row["optim/grad_norm"]))
    assert runs[0][1] > 0
    assert runs[0] == pytest.approx(runs[1], rel=1e-3, abs=1e-6)
