"""From a base model to a DPH-RL run in one config: screening keeps completions, the RL stage rehearses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmrl.config.schema import Config
from mmrl.pipeline.stages import train_stage
from mmrl.progress import SilentProgress
from mmrl.traces.reader import TraceReader
from mmrl.training.metrics import read_metrics
from tests.curation.material import choice, row, write


class Notes(SilentProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def config(folder: Path, model: Path, data: Path, **keys: object) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "run", "folder": str(folder), "seed": 3},
            "model": {"path": str(model)},
            "data": {"train": str(data)},
            "prompt": {"mode": "vanilla"},
            "rewards": {"default": [{"path": "tests.training.length_reward:EVEN"}]},
            "algorithm": "dph_rl",
            "rollout": {"prompts_per_step": 4, "group_size": 4, "max_tokens": 24, "stop": list("aeiounrst")},
            "train": {"steps": 2, "learning_rate": 1e-3},
            "tracking": {"to": []},
            **keys,
        }
    )


@pytest.mark.slow
def test_screened_samples_are_rehearsed(tmp_path: Path, tiny_folder: Path, pictures: list[Path]) -> None:
    rows = [row(f"r{i}", image=str(pictures[i % 4]), choices=["x", "y"], answer=choice("A")) for i in range(12)]
    data = write(tmp_path / "all.jsonl", rows)
    notes = Notes()
    screening = {"rollouts": 1}  # one rollout, right or not: a random policy has no sample it always solves
    train_stage(config(tmp_path, tiny_folder, data, screening=screening), resume=False, overwrite=False, progress=notes)
    run = tmp_path / "run"
    screened = [json.loads(line)["metadata"] for line in (run / "screened" / "train.jsonl").read_text().splitlines()]
    solved = [m for m in screened if m["pass_rate"] == 1.0]
    assert 0 < len(solved) < len(rows)
    assert all(
        ("base_completion" in m) == (m["pass_rate"] == 1.0) for m in screened if m["difficulty"]["truncated"] == 0
    )
    assert any("completions kept" in note for note in notes.said)
    logged = read_metrics(run / "metrics.jsonl")
    assert sum(r["credit/demonstrations"] for r in logged) > 0
    rehearsed = [
        rollout
        for group in TraceReader(run).groups()
        for rollout in group.rollouts
        if rollout.rollout.origin == "base_policy"
    ]
    assert {r.rollout.completion.text for r in rehearsed} <= {m.get("base_completion") for m in solved}
    assert all(row["policy/kl_mean"] >= 0 for row in logged)


@pytest.mark.slow
def test_without_screening_the_run_says_that_nothing_is_rehearsed(
    tmp_path: Path, tiny_folder: Path, pictures: list[Path]
) -> None:
    rows = [row(f"r{i}", image=str(pictures[i % 4]), choices=["x", "y"], answer=choice("A")) for i in range(4)]
    notes = Notes()
    loaded = config(tmp_path, tiny_folder, write(tmp_path / "all.jsonl", rows))
    train_stage(loaded, resume=False, overwrite=False, progress=notes)
    assert any("nothing is rehearsed" in note for note in notes.said)
    assert all(r["credit/demonstrations"] == 0 for r in read_metrics(tmp_path / "run" / "metrics.jsonl"))
