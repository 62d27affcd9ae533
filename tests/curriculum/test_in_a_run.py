"""Every sampler chosen by a config, in real steps of the tiny model: it decides who is asked, and resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmrl import build
from mmrl.config.load import load_config
from mmrl.config.schema import Config
from mmrl.curriculum.catalog import SAMPLERS
from mmrl.errors import ConfigError
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.traces.reader import TraceReader
from mmrl.training.checkpoint import checkpoints, load_trainer_state
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics, reproducible
from mmrl.types import Sample
from tests import toy

Make = Callable[..., Trainer]
SPECS: dict[str, Any] = {name: name for name in SAMPLERS} | {
    "variance_aware": {"type": "variance_aware", "share": 0.5, "diversity": 0.2},
    "bandit": {"type": "bandit", "key": "kind", "rate": 0.9},
    "hard_replay": {"type": "hard_replay", "share": 0.5, "never_solved": True},
    "easy_to_hard": {"type": "easy_to_hard", "first": 0.4, "draws": 12},
    "knapsack": {"type": "knapsack", "least": 2, "most": 6},
}


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, pictures: list[Path]) -> Make:
    samples = [replace(toy.choice_sample(f"s{i}", [pictures[i % 4]]), metadata={"kind": "ab"[i % 2]}) for i in range(6)]
    rated = [replace(s, metadata={**s.metadata, "pass_rate": i / 10}) for i, s in enumerate(samples)]

    def trainer(name: str, *, run: str, model: Path | None = None) -> Trainer:
        chosen: list[Sample] = rated if name in ("easy_to_hard", "knapsack") else samples
        config = Config.model_validate(
            {
                "run": {"name": run, "folder": str(tmp_path), "seed": 3},
                "model": {"path": str(tiny_folder)},
                "data": {"train": "unused"},
                "rewards": {"default": [{"path": "tests.algorithms.even_reward:even"}]},
                "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 4},
                "train": {"steps": 4, "learning_rate": 1e-3, "sampler": SPECS[name]},
            }
        )
        (tmp_path / run).mkdir(exist_ok=True)
        return build.build_trainer(
            config,
            run_dir=tmp_path / run,
            model=load_model(str(model or tiny_folder)),
            train=chosen,
            validation=[],
            scorer=build.build_scorer(config, chosen),
            progress=SilentProgress(),
        )

    return trainer


def asked(trainer: Trainer) -> list[tuple[int, str, int]]:
    """(step, sample, rollouts) in order."""
    return [(g.step, g.sample.id, len(g.rollouts)) for g in TraceReader(trainer.run_dir).groups()]


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_sampler_runs_and_resumes_exactly(name: str, make: Make) -> None:
    straight = make(name, run="straight")
    assert type(straight.sampler) is SAMPLERS[name]
    train(straight)
    killed = make(name, run="killed")
    train(replace(killed, settings=replace(killed.settings, steps=2)))
    [saved] = checkpoints(killed.run_dir)
    resumed = make(name, run="killed", model=saved.folder)
    start = load_trainer_state(saved, backend=resumed.backend, sampler=resumed.sampler, memory=resumed.memory)
    train(resumed, start=start)
    assert asked(resumed) == asked(straight)
    assert resumed.sampler.state() == straight.sampler.state()
    rows = [[reproducible(r) for r in read_metrics(t.run_dir / "metrics.jsonl")] for t in (straight, resumed)]
    assert rows[0] == rows[1]


def test_the_knapsack_shares_the_step_s_rollouts(make: Make) -> None:
    """Two samples of one step, 8 rollouts in all, the harder one gets more: it is worth more at p(1 − p)²."""
    trainer = make("knapsack", run="run")
    train(trainer)
    sizes: dict[int, list[int]] = {}
    for step, _, count in asked(trainer):
        sizes.setdefault(step, []).append(count)
    assert all(sum(counts) == 8 and min(counts) >= 2 for counts in sizes.values())
    assert any(counts[0] != counts[1] for counts in sizes.values())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.sampler=shufled", "train.sampler: unknown sampler 'shufled'. Did you mean 'shuffled'"),
        ("train.sampler={type: hard_replay, share: 2}", "train.sampler.share: expected a number from 0 to 1, got 2"),
        ("train.sampler={type: knapsack, least: 9}", "rollout.group_size: 8 is not between train.sampler's least (9)"),
        ("train.sampler={type: knapsack, least: 9, most: 3}", "train.sampler.least: 9 is more than most (3)"),
    ],
)
def test_a_config_s_mistakes_are_found_before_anything_runs(override: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "run: {name: mini}\nmodel: {tiny: {}}\ndata: {recipe: digits}\nrewards: {default: [{name: choice}]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, [override])
    assert words in str(caught.value)
