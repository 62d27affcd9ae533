"""Data files that change or vanish while a run uses them are named; so is a manifest that changed before a resume."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmrl.config.load import load_config
from mmrl.errors import DataError, RunError
from mmrl.pipeline import train_stage
from mmrl.pipeline.run_folder import check_same_data
from mmrl.policy.render import Renderer
from mmrl.training.metrics import read_metrics
from mmrl.training.watched_files import WatchedFiles
from tests import toy
from tests.training.killed_run import Said, write_config


def test_a_file_that_changes_or_vanishes_is_named_once(tiny_model: toy.LoadedModel, tmp_path: Path) -> None:
    pictures = toy.noise_pictures(tmp_path)
    samples = [toy.choice_sample(f"s{i}", [pictures[i]]) for i in range(3)]
    said: list[str] = []
    model = tiny_model
    renderer = WatchedFiles(Renderer(model.processor, model.policy.family, model.policy.config), said.append)
    assert [p.sample.id for p in renderer.render(samples)[0]] == ["s0", "s1", "s2"]
    assert said == []
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[2].read_bytes())
    for _ in range(2):
        prompts, dropped = renderer.render(samples)
        assert [p.sample.id for p in prompts] == ["s1", "s2"]
        assert [(d.sample_id, d.stage, d.reason) for d in dropped] == [("s0", "media", "file vanished")]
        assert str(pictures[0]) in dropped[0].detail
    [vanished, changed] = said
    assert f"{pictures[0]} has vanished during the run" in vanished
    assert f"{pictures[1]} has changed during the run" in changed
    renderer.close()


def test_a_file_that_never_was_is_a_defect_of_the_data(tiny_model: toy.LoadedModel, tmp_path: Path) -> None:
    model = tiny_model
    renderer = WatchedFiles(Renderer(model.processor, model.policy.family, model.policy.config), print)
    with pytest.raises(DataError, match=r"nowhere.png does not exist"):
        renderer.render([toy.choice_sample("s", [tmp_path / "nowhere.png"])])


def test_a_run_goes_on_without_a_file_that_vanishes(tmp_path: Path) -> None:
    pictures = toy.noise_pictures(tmp_path, [(56, 56), (84, 56)])
    config = write_config(tmp_path, pictures)

    class Removes(Said):
        """Notes are written down; the first finished step costs the run a picture."""

        def show_figures(self, step: int, figures: dict[str, float]) -> None:
            if step == 2:
                pictures[1].unlink()

    loaded = load_config(config, [f"run.folder={tmp_path}", "rollout.max_refills=2"])
    train_stage(loaded, resume=False, overwrite=False, progress=Removes(tmp_path / "said.txt"))
    rows = read_metrics(tmp_path / "tiny" / "metrics.jsonl")
    assert len(rows) == loaded.train.steps
    assert sum(row.get("media/dropped_file_vanished", 0.0) for row in rows) >= 1
    assert f"{pictures[1]} has vanished during the run" in (tmp_path / "said.txt").read_text()


def test_a_manifest_that_changed_is_named_when_the_run_is_resumed(tmp_path: Path) -> None:
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("{}\n")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for _ in range(2):
        check_same_data(run_dir, {"train": str(manifest)})
        os.utime(manifest)
    manifest.write_text("{}\n{}\n")
    with pytest.raises(RunError, match=r"train.jsonl changed since .*run was started"):
        check_same_data(run_dir, {"train": str(manifest)})
