"""Every benchmark runs, at a size that says nothing about speed; what it says beside speed is checked."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl.config.load import load_config
from mmrl.data.manifest import read_manifest
from mmrl.policy.load import load_model
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from tests import toy
from tools.bench import gpu, learning_tasks, scaling, step_vs_trl, time_to_accuracy
from tools.bench.cell import REWARDS, Cell, noise_samples
from tools.bench.digit_pages import write_pages
from tools.bench.held_out import HeldOut, evaluated
from tools.bench.workers import Worker

pytest.importorskip("trl", reason="the benchmarks set mmrl beside trl 1.16")
datasets = pytest.importorskip("datasets")

TINY = ["--threads", "1", "--steps", "1", "--completion-tokens", "4"]


def counters(row: dict[str, Any], tool: str) -> dict[str, Any]:
    found: dict[str, Any] = row[tool]["counters"]
    return found


@pytest.mark.slow
def test_step_vs_trl_counts_both_tools_at_their_known_multiples(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    sizes = ["--visual-tokens", "16", "--group-sizes", "3", "--prompts", "2"]
    report = step_vs_trl.main([*TINY, *sizes, "--json", str(file)])
    (row,) = report["cells"]
    assert row["mmrl"]["prompt_sizes"] == row["trl"]["prompt_sizes"]  # both read the very same prompts
    ours, theirs = counters(row, "mmrl"), counters(row, "trl")
    assert ours["images"]["times"] == 1.0
    assert ours["patches"]["times"] == 1.0
    assert 1.0 <= ours["tokens"]["times"] <= 1.1
    # TRL prepares every picture twice per completion, encodes it once per completion and pass, and repeats the prompt.
    assert theirs["images"]["times"] == 2 * 3
    assert theirs["patches"]["times"] == 3 * 3 / 2  # three passes, where the bound is two
    tokens = sum(3 * (prompt + 4 - 1) for prompt, _ in row["trl"]["prompt_sizes"])
    assert theirs["by_pass"]["tokens"]["rollout"] == tokens  # completions of exactly 4 tokens
    assert theirs["by_pass"]["tokens"].keys() == {"rollout", "reference", "update"}
    assert row["mmrl"]["phases"].keys() >= {"render", "rollout", "old_and_reference", "update", "rest"}
    assert all(row[tool]["memory"]["beyond_mib"] > 0 for tool in ("mmrl", "trl"))
    written = json.loads(file.read_text())
    assert written["cells"][0]["mmrl"]["all_seconds"] == row["mmrl"]["all_seconds"]
    assert written["machine"]["versions"]["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.slow
def test_frozen_tower_without_reference_encodes_each_picture_once(tmp_path: Path) -> None:
    more = ["--visual-tokens", "16", "--group-sizes", "2", "--freeze-vision", "--beta", "0", "--skip-trl", "16x2"]
    report = step_vs_trl.main([*TINY, *more])
    (row,) = report["cells"]
    assert row["trl_skipped"]
    assert "trl" not in row
    assert counters(row, "mmrl")["patches"] == {"counted": 2 * 64, "bound": 2 * 64, "times": 1.0}
    assert counters(row, "mmrl")["by_pass"]["tokens"].keys() == {"rollout", "update"}


@pytest.mark.slow
def test_scaling_walks_an_axis() -> None:
    options = ["--axes", "group", "--group-sizes", "2", "1", "--at", "1", "16", "4", "--threads", "1", "--steps", "1"]
    report = scaling.main(options)
    rows = report["axes"]["group"]
    assert [row["size"] for row in rows] == [1, 2]
    more = rows[1]["counters"]["tokens"]["bound"] - rows[0]["counters"]["tokens"]["bound"]
    assert more == 3 * (4 - 1)  # three passes over one completion more
    assert report["verdict"]["overall"] == pytest.approx(rows[1]["growth"])


@pytest.mark.slow
def test_gpu_s_dry_run_reports_shares_of_the_matrix_rate() -> None:
    options = ["--device", "cpu", "--tiny", "--visual-tokens", "16", "--group-sizes", "2", "--prompts", "1"]
    report = gpu.main([*TINY, *options, "--tools", "mmrl", "--rate", "0.5"])
    assert report["machine"]["rate_source"] == "given"
    assert report["machine"]["rate_measured_tflops"] > 0
    found = report["cells"][0]["mmrl"]
    needed = report["cells"][0]["needed_tflop"]
    assert found["share_needed"] == pytest.approx(needed / found["step_seconds"] / 0.5)
    assert 0 < found["share_computed"] < 1
    assert found["completion_tokens_per_second"] == pytest.approx(8 / found["step_seconds"])


def test_gpu_refuses_a_machine_without_one() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="no CUDA device"):
            gpu.main([])
    with pytest.raises(SystemExit, match="--tiny"):
        gpu.main(["--device", "cpu"])


@pytest.mark.slow
def test_both_learners_start_from_the_same_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(learning_tasks.TASKS["digits"], prompts=2, group_size=2, held_out=8)
    monkeypatch.setitem(learning_tasks.TASKS, "digits", small)
    options = ["--folder", str(tmp_path), "--tasks", "digits", "--steps", "2", "--every", "1", "--threads", "1"]
    report = time_to_accuracy.main(
        [*options, "--set", "sft.steps=2", "sft.warmup_steps=1", "--json", str(tmp_path / "report.json")]
    )
    (run,) = report["runs"]
    curves = {tool: found["curve"] for tool, found in run["tools"].items()}
    assert curves["mmrl"][0] == curves["trl"][0] == (0.0, run["start"])
    for tool, found in run["tools"].items():
        assert found["steps"] == 2
        assert found["seconds"] is None, tool  # two steps do not teach reading
        assert len(curves[tool]) == 3
    assert json.loads((tmp_path / "report.json").read_text())["runs"][0]["goal"] == 0.85


def test_line_says_who_did_not_reach_the_goal() -> None:
    reached = {"seconds": 10.0, "spent_seconds": 10.0, "steps": 40, "curve": [(0.0, 0.5), (10.0, 0.9)]}
    slow = {"seconds": 25.0, "spent_seconds": 25.0, "steps": 45, "curve": [(0.0, 0.5), (25.0, 0.86)]}
    never = {"seconds": None, "spent_seconds": 80.0, "steps": 50, "curve": [(0.0, 0.5), (30.0, 0.7)]}
    run: dict[str, Any] = {"task": "digits", "seed": 0, "start": 0.5, "ceiling": None, "goal": 0.85}
    assert time_to_accuracy.line(run | {"tools": {"mmrl": reached, "trl": slow}})[-1] == "2.50"
    row = time_to_accuracy.line(run | {"tools": {"mmrl": reached, "trl": never}})
    assert row[-3:] == ("not in 80.0", 50, "> 8.00")
    assert time_to_accuracy.line(run | {"tools": {"mmrl": never, "trl": slow}})[-1] == "–"
    assert "trl not reached (best 70.0%), 50 steps" in time_to_accuracy.sentence(
        run | {"tools": {"mmrl": reached, "trl": never}}
    )


def test_a_tool_stops_at_the_goal_its_limits_and_far_behind_the_other() -> None:
    no_worker: Any = None  # it is not asked to step

    def learner(seconds: float, *, steps: int = 5, reached: float | None = None) -> time_to_accuracy.Learner:
        return time_to_accuracy.Learner("mmrl", no_worker, seconds=seconds, steps=steps, reached=reached)

    limits = argparse.Namespace(seconds=100.0, steps=10, lead=3.0)

    def goes_on(one: time_to_accuracy.Learner, *others: time_to_accuracy.Learner) -> bool:
        return time_to_accuracy.goes_on(one, [one, *others], limits)

    assert goes_on(learner(99.0), learner(5.0))
    assert not goes_on(learner(100.0))
    assert not goes_on(learner(1.0, steps=10))
    assert not goes_on(learner(20.0, reached=20.0))
    assert goes_on(learner(59.0), learner(20.0, reached=20.0))
    assert not goes_on(learner(60.0), learner(20.0, reached=20.0))


def test_trl_is_paid_by_mmrl_s_rewards() -> None:
    from tools.bench.trl_worker import reward_function

    samples = [toy.choice_sample("a", answer="A"), toy.choice_sample("b", answer="B")]
    with RewardScorer(reward_uses(REWARDS)) as scorer:
        total = reward_function(samples, scorer, group_size=2)
        texts = [
            "<think>so</think><answer>A</answer>",
            "<answer>B</answer>",
            "<think>so</think><answer>B</answer>",
            "x x",
        ]
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        paid = total(completions=completions, completion_ids=[[1, 2]] * 4, sample=[0, 0, 1, 1], other=[None] * 4)
    # Right (1), in the form (0.2), and one word of "think so think" is a repetition: −0.3/3; wrong and out of form; …
    assert paid == [pytest.approx(value) for value in (1.1, 0.0, 1.1, -0.15)]


def test_fresh_pictures_of_the_asked_size_behind_a_small_warm_up(tmp_path: Path) -> None:
    from PIL import Image

    samples = read_manifest(noise_samples(tmp_path, steps=2, prompts=2, visual_tokens=16))
    pictures = [Image.open(str(sample.media[0].path)) for sample in samples]
    assert [picture.size for picture in pictures] == [(56, 56)] * 2 + [(112, 112)] * 4
    assert len({picture.tobytes() for picture in pictures}) == 6
    with pytest.raises(SystemExit, match="square"):
        noise_samples(tmp_path, steps=1, prompts=1, visual_tokens=5)


def test_pages_show_the_digit_that_is_asked_for_everywhere(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    digits = [toy.choice_sample(str(i), [path], answer="B") for i, path in enumerate(toy.noise_pictures(tmp_path)[:2])]
    small = [Image.open(str(digit.media[0].path)).convert("L").resize((56, 56)) for digit in digits]
    for digit, picture in zip(digits, small, strict=True):
        picture.save(str(digit.media[0].path))
    manifest = write_pages(digits, tmp_path / "pages", seed=1)
    pages = read_manifest(manifest)
    assert [(p.id, p.question, p.choices, p.answer) for p in pages] == [
        (d.id, d.question, d.choices, d.answer) for d in digits
    ]
    for page, picture in zip(pages, small, strict=True):
        shown = np.asarray(Image.open(str(page.media[0].path)).convert("L"), np.float64)
        assert shown.shape == (448, 448)
        cells = shown.reshape(8, 56, 8, 56).mean((0, 2))  # the noise of 64 copies nearly cancels
        assert np.corrcoef(cells.ravel(), np.asarray(picture, np.float64).ravel())[0, 1] > 0.95
    again = read_manifest(write_pages(digits, tmp_path / "again", seed=1))
    assert [Path(str(p.media[0].path)).read_bytes() for p in again] == [
        Path(str(p.media[0].path)).read_bytes() for p in pages
    ]


def test_held_out_accuracy_is_of_the_weights_that_are_given(tmp_path: Path, tiny_folder: Path) -> None:
    config = load_config(learning_tasks.QUICKSTART, ["run.name=x"])
    samples = [toy.choice_sample(str(i), toy.noise_pictures(tmp_path)[:1], answer="A") for i in range(2)]
    model = load_model(str(tiny_folder)).policy.model
    own = HeldOut(config, load_model(str(tiny_folder)), samples)
    assert own.accuracy(model) == evaluated(config, str(tiny_folder), samples) == 0.0
    before = next(model.parameters()).clone()
    with torch.no_grad():
        next(model.parameters()).mul_(0.5)
    own.accuracy(model)
    copied = next(own._model.policy.model.parameters())
    assert torch.equal(copied, next(model.parameters()))
    assert not torch.equal(copied, before)


@pytest.mark.slow
def test_worker_that_dies_says_why(tmp_path: Path) -> None:
    cell = Cell(
        model=str(tmp_path / "nothing"),
        manifest=str(tmp_path / "nothing.jsonl"),
        folder=str(tmp_path),
        prompts=1,
        group_size=2,
        completion_tokens=4,
        rewards=REWARDS,
    )
    worker = Worker("mmrl", cell)
    try:
        with pytest.raises(SystemExit, match="mmrl's process ended with code 1") as failure:
            worker.ready()
        assert "nothing" in str(failure.value)
    finally:
        worker.close()
