"""`mmrl export`: the model on its own, adapters merged, and a page that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from mmrl.cli.main import main
from mmrl.config.load import load_config
from mmrl.errors import RunError
from mmrl.pipeline import export_run, train_stage
from mmrl.policy.adapters import merged_weights
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.training.checkpoint import checkpoints
from tests.toy import noise_pictures
from tests.training.killed_run import write_config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps with adapters; the best checkpoint is one of the earlier ones."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, noise_pictures(folder, [(56, 56), (56, 56)]))
    changes = [
        f"run.folder={folder}",
        "train.steps=3",
        "train.checkpoint_every=1",
        "train.keep_checkpoints=3",
        "train.lora={rank: 2}",
        "train.keep_best={metric: optim/learning_rate}",  # falls with the cosine: the first step is the best
        "algorithm={base: grpo}",
        "rewards.default=[{path: 'tests.training.length_reward:EVEN'}, {name: length, weight: 0.5}]",
    ]
    train_stage(load_config(config, changes), resume=False, overwrite=False, progress=SilentProgress())
    return folder / "tiny"


def test_the_card_says_data_recipe_metrics_and_versions(run: Path, tmp_path: Path) -> None:
    out = export_run(run, tmp_path / "model")
    assert not (out / "trainer").exists()
    card = (out / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "transformers"
    assert header["tags"][-1] == "grpo"
    for said in (
        "step 3.",
        "- train: 7 samples",
        "- rewards: default: 1 × tests.training.length_reward:EVEN, 0.5 × length",
        "- rollouts: 2 prompts × 3 a step, at most 6 tokens",
        "- adapters: rank 2, alpha 32; merged into these weights",
        "Of training step 2:",
        "| reward/total_mean |",
        f"- torch {torch.__version__}",
        "checkpoint_every: 1",
    ):
        assert said in card, said


def test_the_exported_weights_have_the_adapters_in_them(run: Path, tmp_path: Path) -> None:
    from mmrl.policy.adapters import add_adapters, load_adapter_state

    out = export_run(run, tmp_path / "model")
    state = torch.load(checkpoints(run)[-1].folder / "trainer" / "state.pt", weights_only=True)
    base = load_model(str(run / "model"))
    add_adapters(base.policy, rank=2, alpha=32.0, targets=(), parts=("language",), seed=5)
    load_adapter_state(base.policy.model, state["backend"]["adapters"])
    written = dict(load_model(str(out)).policy.model.named_parameters())
    merged = dict(merged_weights(base.policy.model))
    assert written.keys() == merged.keys()
    assert all(torch.equal(written[name], value) for name, value in merged.items())
    plain = dict(load_model(str(run / "model")).policy.model.named_parameters())
    assert any(not torch.equal(plain[name], value) for name, value in merged.items())


def test_the_best_checkpoint_by_the_config_s_metric(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), str(tmp_path / "best"), "--best"]) == 0
    assert "Of training step 0:" in (tmp_path / "best" / "README.md").read_text()
    capsys.readouterr()
    assert main(["export", str(run), str(tmp_path / "other"), "--best", "--step", "2"]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_exported(run: Path, tmp_path: Path) -> None:
    file = checkpoints(run)[1].folder / "config.json"
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")
    with pytest.raises(RunError, match=r"step_000002 is damaged: config.json has .* Choose another with --step"):
        export_run(run, tmp_path / "model", step=2)
    assert not (tmp_path / "model").exists()
    file.write_bytes(whole)
