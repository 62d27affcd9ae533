"""Twins and demonstrations: what they are made of, where they end up, and that real steps train with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmrl import build
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.batch import RewardTable, Streams
from mmrl.config.schema import Config
from mmrl.credit.part import StepContext
from mmrl.credit.shaping import SoftTop, TwinBonus
from mmrl.errors import DataError, RunError
from mmrl.plan.demonstrations import StoredCompletion
from mmrl.plan.views import ShuffledFrames
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import Sampling
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.traces.reader import TraceReader
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics
from mmrl.training.planned import Author, asked_groups, twin_groups
from mmrl.types import Answer, Media, Prompt, Sample, ScoredGroup, VisionInputs
from tests import toy


def clip(*grids: tuple[int, int, int], kinds: tuple[Any, ...] = ("video",)) -> Prompt:
    size = sum(t * h * w for t, h, w in grids)
    vision = VisionInputs(
        patches=torch.arange(size * 2, dtype=torch.float32).view(size, 2),
        grids=grids,
        kinds=kinds,
        seconds_per_grid=(1.0,) * len(grids),
        digests=tuple(f"digest-{i}" for i in range(len(grids))),
    )
    return replace(toy.text_prompt("clip"), vision=vision)


def test_shuffled_frames_are_the_same_moments_in_another_order() -> None:
    prompt = clip((1, 2, 2), (5, 2, 2), kinds=("image", "video"))
    twin = ShuffledFrames()(prompt, 3)
    assert twin is not None
    assert prompt.vision is not None
    assert twin.vision is not None
    before, after = prompt.vision.items(), twin.vision.items()
    assert torch.equal(before[0].patches, after[0].patches)  # the picture stays
    assert before[0].digest == after[0].digest
    assert before[1].digest != after[1].digest
    moments, shuffled = (item.patches.view(5, -1).tolist() for item in (before[1], after[1]))
    assert shuffled != moments
    assert sorted(shuffled) == moments
    assert (twin.token_ids, twin.media_slots, twin.vision.grids) == (
        prompt.token_ids,
        prompt.media_slots,
        prompt.vision.grids,
    )
    again = ShuffledFrames()(prompt, 3)
    assert again is not None
    assert again.vision is not None
    assert torch.equal(again.vision.patches, twin.vision.patches)


def test_what_has_no_order_has_no_twin() -> None:
    assert ShuffledFrames()(toy.text_prompt("t"), 0) is None
    assert ShuffledFrames()(clip((4, 2, 2), kinds=("image",)), 0) is None
    assert ShuffledFrames()(clip((1, 2, 2)), 0) is None
    two = [ShuffledFrames()(clip((2, 1, 1)), seed) for seed in range(6)]
    assert all(t is not None and t.vision is not None and t.vision.patches[0, 0] == 2 for t in two)


def group(id_: str, accuracy: list[float], twin: list[float] | None) -> ScoredGroup:
    made = toy.scored_lengths(id_, accuracy, [2] * len(accuracy))
    made = replace(made, accuracy=tuple(accuracy))
    if twin is None:
        return made
    other = replace(toy.scored_lengths(id_, twin, [2] * len(twin)), accuracy=tuple(twin))
    return replace(made, twins={"shuffled_frames": other})


def bonus(*groups: ScoredGroup) -> list[float]:
    table = RewardTable.of(groups)
    context = StepContext(streams=Streams(), mask=torch.ones(len(table.total), 2, dtype=torch.bool), max_tokens=4)
    return [round(value, 6) for value in TwinBonus()(table, context).tolist()]


def test_the_temporal_bonus_as_worked_in_the_reference() -> None:
    """0.5 ordered against 0.5 shuffled: 0.5 ≥ 0.4, so the right ones get 0.3 more."""
    ordered = [1.0, 0, 1, 1, 0, 0, 1, 0]
    assert bonus(group("a", ordered, [1, 0, 1, 0])) == [0.3 * a for a in ordered]
    assert bonus(group("b", [1, 0, 0, 0], [1, 0])) == [0.0] * 4  # 0.25 < 0.4
    assert bonus(group("c", [0, 0], [0])) == [0.0, 0.0]  # nobody is accurate
    mixed = bonus(group("d", [1, 0.1], None), group("e", [1, 0.1], [0.0]), group("f", [1, 1], [1]))
    assert mixed == [0.0, 0.0, 0.3, 0.0, 0.3, 0.3]


def test_soft_top_of_the_accuracy_leaves_other_rewards_alone() -> None:
    made = replace(toy.scored_lengths("a", [1.2, 0.2], [2, 2]), accuracy=(1.0, 0.0))
    table = RewardTable.of([made])
    context = StepContext(streams=Streams(), mask=torch.ones(2, 2, dtype=torch.bool), max_tokens=4)
    total = table.total + SoftTop(of="accuracy")(table, context)
    assert total.tolist() == pytest.approx([0.801823 + 0.2, 0.086764 + 0.2], abs=1e-6)


AUTHOR = Author(
    write=lambda prompt, thought: f"<answer>{prompt.sample.answer.value}</answer>", encode=lambda t: (*t.encode(), 0)
)
SAMPLING = Sampling(group_size=3, max_tokens=40)


def planned(name: str, prompts: list[Prompt], **keys: Any) -> Any:
    engine = ScriptedEngine(lambda sample, index: f"no {index}")
    options: dict[str, Any] = {
        "engine": engine,
        "algorithm": ALGORITHMS[name],
        "sampling": SAMPLING,
        "step": 0,
        "by": AUTHOR,
    }
    return asked_groups(prompts, None, **(options | keys))


def test_the_gold_answer_takes_the_last_place() -> None:
    [made] = planned("tempsamp_r1", [toy.text_prompt("a")])
    assert [(r.index, r.origin) for r in made.rollouts] == [(0, "policy"), (1, "policy"), (2, "ground_truth")]
    gold = made.rollouts[2]
    assert gold.completion.text == "<answer>A</answer>"
    assert len(gold.policy_logprobs) == len(gold.token_ids) == 19
    assert all(math.isnan(value) for value in (*gold.policy_logprobs, *gold.behavior_logprobs))
    scored = toy.scored(made, [0.0, 1.0, 1.0])
    own = scored.own()
    assert own is not None
    assert own.totals == (0.0, 1.0)
    assert RewardTable.of([scored]).own.tolist() == [True, True, False]


def test_a_demonstration_that_cannot_be_written_or_does_not_fit_is_refused() -> None:
    with pytest.raises(RunError, match="19 tokens, more than rollout"):
        planned("tempsamp_r1", [toy.text_prompt("a")], sampling=replace(SAMPLING, max_tokens=18))
    with pytest.raises(RunError, match="nobody was given to write them"):
        planned("tempsamp_r1", [toy.text_prompt("a")], by=None)
    from mmrl.policy.forms import target_text

    box = Sample(id="b", task="t", question="Where?", answer=Answer(type="box", value=(1, 2, 3, 4)))
    with pytest.raises(DataError, match="depends on the model"):
        target_text(box, "answer", "")
    span = Sample(id="s", task="t", question="When?", answer=Answer(type="span", value=(1.5, 4.0)))
    assert target_text(span, "answer", "") == "<answer>1.5, 4</answer>"


def stored(id_: str, **metadata: Any) -> Prompt:
    prompt = toy.text_prompt(id_)
    return replace(prompt, sample=replace(prompt.sample, metadata=metadata))


def test_stored_completions_stand_alone_and_only_where_the_base_policy_always_solved_the_sample() -> None:
    known = stored("a", base_completion="it is B", pass_rate=1.0)
    hard = stored("b", base_completion="it is B", pass_rate=0.875)
    made = planned("dph_rl", [known, hard, stored("c", pass_rate=1.0)])
    assert [[r.origin for r in g.rollouts] for g in made] == [["base_policy"], ["policy"] * 3, ["policy"] * 3]
    assert made[0].rollouts[0].completion.text == "it is B"
    assert StoredCompletion(least_pass_rate=0.8)(hard, AUTHOR.write) == "it is B"


@pytest.mark.parametrize("name", ["dph_rl", "dph_rl_js"])
def test_the_divergence_holds_on_rehearsed_rows_alone(name: str) -> None:
    made = planned(name, [stored("a", base_completion="it", pass_rate=1.0), toy.text_prompt("b")])
    scored = [toy.scored(made[0], [1.0]), toy.scored(made[1], [0.0, 1.0, 1.0])]
    zeros = torch.zeros(4, 5)
    streams = Streams(old_logprobs=zeros, ref_logprobs=zeros)
    batch = ALGORITHMS[name].credit(scored, streams=streams, max_tokens=40).batch
    assert batch.divergence_weight.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert batch.advantages[0] == 0.0
    assert float(batch.advantages[1:].abs().min()) > 0


def test_twins_have_half_the_rollouts_and_randomness_of_their_own() -> None:
    engine = ScriptedEngine(lambda sample, index: "x")
    sampling = replace(SAMPLING, group_size=5)
    groups = engine.generate([clip((3, 1, 1)), toy.text_prompt("t")], sampling, step=0)
    made = twin_groups(groups, engine=engine, algorithm=ALGORITHMS["t_grpo"], sampling=sampling, step=0)
    [twin] = made["shuffled_frames"]
    assert len(twin.rollouts) == 2
    assert twin.prompt.sample.id == "clip"
    assert not {r.seed for r in twin.rollouts} & {r.seed for r in groups[0].rollouts}


def test_a_plan_that_finds_nothing_in_the_data_says_so() -> None:
    still, moving = toy.choice_sample("a", [Path("a.png")]), toy.choice_sample("b")
    moving = replace(moving, media=(Media(type="video", path="b.mp4"),))
    assert ShuffledFrames().idle([still, moving]) is None
    assert "no training sample shows a clip" in (ShuffledFrames().idle([still]) or "")
    known, hard = (stored("a", base_completion="it", pass_rate=rate).sample for rate in (1.0, 0.5))
    assert StoredCompletion().idle([hard, known]) is None
    assert "--keep-completion" in (StoredCompletion().idle([hard, still]) or "")
    assert StoredCompletion(least_pass_rate=0.5).idle([hard]) is None


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path) -> Callable[..., Trainer]:
    files = []
    for i in range(6):
        files.append(tmp_path / f"{i}.png")
        Image.new("RGB", (56, 56), (40 * i, 10, 200)).save(files[-1])
    frames = Media(type="frames", paths=tuple(map(str, files)), fps=1.0)
    samples = [replace(toy.choice_sample(f"s{i}"), media=(frames,)) for i in range(4)]
    samples[0] = replace(samples[0], metadata={"pass_rate": 1.0, "base_completion": "<answer>A</answer>"})

    def trainer(algorithm: str) -> Trainer:
        config = Config.model_validate(
            {
                "run": {"name": "run", "folder": str(tmp_path), "seed": 3},
                "model": {"path": str(tiny_folder)},
                "data": {"train": "unused"},
                "rewards": {"default": [{"path": "tests.algorithms.even_reward:even"}]},
                "algorithm": algorithm,
                "prompt": {"mode": "answer"},
                "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 24},
                "train": {"steps": 2, "learning_rate": 1e-3},
            }
        )
        (tmp_path / "run").mkdir()
        return build.build_trainer(
            config,
            run_dir=tmp_path / "run",
            model=load_model(str(tiny_folder)),
            train=samples,
            validation=[],
            scorer=build.build_scorer(config, samples),
            progress=SilentProgress(),
        )

    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t_grpo", "tempsamp_r1", "dph_rl"])
def test_real_steps_on_clips(name: str, make: Callable[..., Trainer]) -> None:
    trainer = make(name)
    train(trainer)
    rows = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert all(math.isfinite(value) for row in rows for value in row.values())
    groups = list(TraceReader(trainer.run_dir).groups())
    origins = {r.rollout.origin for g in groups for r in g.rollouts}
    twins = [g for g in groups if g.dropped is not None]
    if name == "t_grpo":
        assert {(g.dropped.stage, g.dropped.reason) for g in twins if g.dropped} == {("view", "shuffled_frames")}
        assert {len(g.rollouts) for g in twins} == {2}
        assert len(twins) == 4
        assert all("rollout/shuffled_frames_accuracy" in row for row in rows)
    elif name == "tempsamp_r1":
        assert origins == {"policy", "ground_truth"}
        assert all(g.rollouts[-1].rollout.completion.text == "<answer>A</answer>" for g in groups)
        assert rows[0]["policy/behavior_gap_max"] < 1e-4
    else:
        assert origins == {"policy", "base_policy"}
        assert all(row["policy/kl_mean"] >= 0 for row in rows)
