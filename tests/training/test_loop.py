"""The loop with a real tiny model on a few digits: resuming, refilling, stopping, and what it refuses to go on with."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor

from mmrl import build
from mmrl.algorithms.catalog import ALGORITHMS
from mmrl.algorithms.dapo import DAPO
from mmrl.batch import NO_NEEDS, Need, Totals
from mmrl.config.schema import Config
from mmrl.credit.filters import MixedCorrectness
from mmrl.errors import RunError
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.traces import indexing
from mmrl.traces.index import TraceIndex
from mmrl.traces.reader import TraceReader
from mmrl.training.checkpoint import checkpoints, load_trainer_state
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics
from mmrl.training.watcher import WatchSettings, read_warnings
from mmrl.types import Sample
from tests import toy
from tests.training.same_run import rows, traced

STEPS = 4


@pytest.fixture
def samples(pictures: list[Path]) -> list[Sample]:
    return [toy.choice_sample(f"s{i}", [pictures[i % 4]], answer="ABCD"[i % 4]) for i in range(10)]


def config(folder: Path, model: Path, **train_keys: Any) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "toy", "folder": str(folder), "seed": 3},
            "model": {"path": str(model)},
            "data": {"train": "unused"},
            "rewards": {
                "default": [
                    {"path": "tests.training.length_reward:EVEN"},
                    {"path": "tests.training.length_reward:short", "weight": 0.5},
                ]
            },
            "algorithm": {"base": "grpo"},
            "rollout": {"prompts_per_step": 3, "group_size": 3, "max_tokens": 10},
            "train": {"steps": STEPS, "learning_rate": 1e-3, "checkpoint_every": 2, **train_keys},
        }
    )


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, samples: list[Sample]) -> Callable[..., Trainer]:
    def trainer(
        name: str, *, model: Path | None = None, given: Sequence[Sample] | None = None, **train_keys: Any
    ) -> Trainer:
        settings = config(tmp_path, tiny_folder, **train_keys)
        run_dir = tmp_path / name
        run_dir.mkdir(exist_ok=True)
        train_samples = list(given or samples)
        return build.build_trainer(
            settings,
            run_dir=run_dir,
            model=load_model(str(model or tiny_folder)),
            train=train_samples,
            validation=[],
            scorer=build.build_scorer(settings, train_samples),
            progress=SilentProgress(),
        )

    return trainer


def test_a_run_leaves_the_index_that_the_inspector_opens(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "LAST_BYTES", 1)
    trainer = make("indexed", steps=2)
    train(trainer)
    index = TraceIndex(trainer.run_dir)
    assert index.pending() == 0
    assert index.facets().steps == (0, 1)


def test_the_trace_has_what_colours_each_token(make: Callable[..., Trainer]) -> None:
    """Their means over the step are the metrics of the same name; nothing is traced that no part of GRPO has."""
    trainer = make("coloured", minibatches=2, steps=2)
    train(trainer)
    for row in rows(trainer.run_dir):
        groups = TraceReader(trainer.run_dir).read(int(row["step"])).groups
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        assert {name for rollout in rollouts for name in rollout.streams} == {"entropy", "kl", "ratio"}
        for name, values in rollouts[0].streams.items():
            assert len(values) == len(rollouts[0].rollout.token_ids), name
        for name in ("entropy", "kl", "ratio"):
            flat = [value for rollout in rollouts for value in rollout.streams[name]]
            assert row[f"policy/{name}_mean"] == pytest.approx(sum(flat) / len(flat), rel=1e-4), name
        assert row["policy/ratio_max"] == pytest.approx(max(v for r in rollouts for v in r.streams["ratio"]), rel=1e-5)


def test_parts_that_weigh_tokens_show_in_the_trace(make: Callable[..., Trainer]) -> None:
    trainer = make("weighed", steps=1)
    train(replace(trainer, algorithm=ALGORITHMS["high_entropy"], settings=replace(trainer.settings, steps=1)))
    [group, *_] = TraceReader(trainer.run_dir).read(0).groups
    [row] = rows(trainer.run_dir)
    weights = {value for rollout in group.rollouts for value in rollout.streams["token_weight"]}
    assert weights <= {0.0, 1.0}
    assert 0.5 < row["credit/token_weight_zero_fraction"] < 0.9
    assert "kl" not in group.rollouts[0].streams


def test_the_gap_to_the_engine_is_that_before_the_first_update(make: Callable[..., Trainer]) -> None:
    """However far the step's own updates move the policy: what is compared are two readings of the same weights."""
    trainer = make("gap", minibatches=3, steps=1, learning_rate=0.03)
    train(trainer)
    [row] = rows(trainer.run_dir)
    assert row["policy/ratio_max"] > 1.05
    assert row["policy/behavior_gap_max"] < 1e-4


def test_resumed_equals_uninterrupted(make: Callable[..., Trainer]) -> None:
    """Metrics, traces and weights, bit for bit; what the killed process wrote after its checkpoint is replaced."""
    straight = make("straight")
    assert train(straight) == STEPS
    killed = make("killed")
    train(replace(killed, settings=replace(killed.settings, steps=3)))  # leaves checkpoints at 2 and 3
    [first, last] = checkpoints(killed.run_dir)
    assert (first.step, last.step) == (2, 3)
    for file in sorted(last.folder.rglob("*"), reverse=True):  # as if killed before this one was written
        file.rmdir() if file.is_dir() else file.unlink()
    last.folder.rmdir()
    resumed = make("killed", model=first.folder)
    start = load_trainer_state(first, backend=resumed.backend, sampler=resumed.sampler, memory=resumed.memory)
    assert start == 2
    assert train(resumed, start=start) == STEPS
    assert rows(resumed.run_dir) == rows(straight.run_dir)
    assert traced(resumed.run_dir) == traced(straight.run_dir)
    files = [checkpoints(t.run_dir)[-1].folder / "model.safetensors" for t in (straight, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_seed_decides_the_run(make: Callable[..., Trainer]) -> None:
    for name in ("one", "two"):
        train(make(name))
    one, two = (make(name).run_dir for name in ("one", "two"))
    assert rows(one) == rows(two)
    assert traced(one) == traced(two)


def test_everything_of_a_step_is_logged_and_traced(make: Callable[..., Trainer]) -> None:
    trainer = make("run")
    train(trainer)
    logged = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert [row["step"] for row in logged] == list(range(STEPS))
    assert {"reward/total_mean", "policy/kl_mean", "loss/total", "optim/grad_norm"} <= set(logged[0])
    assert logged[-1]["train/prompts_seen"] == 3 * STEPS
    assert logged[0]["policy/behavior_gap_max"] < 1e-4  # engine and policy agree
    groups = list(TraceReader(trainer.run_dir).groups())
    assert len(groups) == 3 * STEPS
    assert all(r.advantage is not None for g in groups for r in g.rollouts)
    assert {r.rollout.policy_version for g in groups if g.step == 2 for r in g.rollouts} == {2}


def test_broken_pictures_are_dropped_refilled_and_counted(
    make: Callable[..., Trainer], samples: list[Sample], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    bad = [toy.choice_sample(f"bad{i}", [broken]) for i in range(4)]
    trainer = make("run", given=[*samples, *bad])
    train(trainer)
    logged = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert all(row["rollout/groups"] == 3 for row in logged)
    assert sum(row.get("rollout/dropped_media", 0) for row in logged) >= 2
    drops = list(TraceReader(trainer.run_dir).drops())
    assert {d.dropped.sample_id[:3] for d in drops} == {"bad"}


def test_a_filter_that_keeps_nothing_stops_the_run_and_says_why(make: Callable[..., Trainer]) -> None:
    trainer = make("run")
    impossible = replace(DAPO, filters=(MixedCorrectness(threshold=2.0),))
    hopeless = replace(trainer, algorithm=impossible, settings=replace(trainer.settings, steps=9, max_refills=0))
    with pytest.raises(RunError, match=r"no group to learn from .*all wrong"):
        train(hopeless)


def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(make: Callable[..., Trainer]) -> None:
    trainer = make("run", checkpoint_every=100)
    generate = trainer.engine.generate
    calls = 0

    def interrupted(*arguments: Any, **keys: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return generate(*arguments, **keys)

    trainer.engine.generate = interrupted  # type: ignore[method-assign]
    assert train(trainer) == 2
    assert [c.step for c in checkpoints(trainer.run_dir)] == [2]


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "apo", "grpo_care", "vsgrpo"])
def test_algorithms_take_steps(name: str, make: Callable[..., Trainer]) -> None:
    """Two steps with two updates each: finite, and the weights move where credit was given."""
    trainer = make("run", minibatches=2)  # built for grpo, so there is a reference for those that need one
    algorithm = replace(ALGORITHMS[name], filters=())
    train(replace(trainer, algorithm=algorithm, settings=replace(trainer.settings, steps=2)))
    logged = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert len(logged) == 2
    assert all(math.isfinite(row["optim/grad_norm"]) and math.isfinite(row["policy/ratio_max"]) for row in logged)
    credited = [r.advantage for g in TraceReader(trainer.run_dir).groups() for r in g.rollouts]
    assert any(row["optim/grad_norm"] > 0 for row in logged) or not any(credited)


class Poisoned:
    """An aggregation that gives no number at every so many-th call."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __init__(self, real: Any, *, every: int) -> None:
        self._real, self._every, self._calls = real, every, 0

    def __call__(self, values: Tensor, mask: Tensor, totals: Totals) -> Tensor:
        self._calls += 1
        share: Tensor = self._real(values, mask, totals)
        return share * math.nan if self._calls % self._every == 0 else share


def poisoned(trainer: Trainer, *, every: int) -> Trainer:
    spoilt = replace(trainer.algorithm, aggregation=Poisoned(trainer.algorithm.aggregation, every=every))
    return replace(trainer, algorithm=spoilt)


def test_an_update_that_is_not_finite_is_skipped_and_its_samples_are_saved(make: Callable[..., Trainer]) -> None:
    trainer = make("run", minibatches=3, stop_after_skipped=9)
    train(poisoned(trainer, every=4))  # one micro-batch an update, three updates a step: one in four is spoilt
    logged = read_metrics(trainer.run_dir / "metrics.jsonl")
    skipped = [row.get("optim/skipped_updates", 0.0) for row in logged]
    assert skipped == [0.0, 1.0, 1.0, 1.0]
    assert [row["optim/updates"] for row in logged] == [3.0, 2.0, 2.0, 2.0]
    assert all(math.isfinite(value) for row in logged for value in row.values())
    assert all(bool(value.isfinite().all()) for _, value in trainer.backend.weights())
    saved = TraceReader(trainer.run_dir, folder="not_finite")
    assert saved.steps() == [1, 2, 3]
    asked = {g.sample.id for g in TraceReader(trainer.run_dir).groups() if g.step == 1}
    [group] = [g for g in saved.groups() if g.step == 1]
    assert group.sample.id in asked
    assert all(r.advantage is not None for r in group.rollouts)


def test_steps_in_a_row_without_a_finite_loss_end_the_run(make: Callable[..., Trainer]) -> None:
    trainer = make("run", stop_after_skipped=2)
    before = [value.clone() for _, value in trainer.backend.weights()]
    with pytest.raises(RunError, match=r"steps 0–1 each had an update whose loss or gradient was not finite"):
        train(poisoned(trainer, every=1))
    rows = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert [row["optim/updates"] for row in rows] == [0.0, 0.0]
    assert all(bool((a == b).all()) for a, (_, b) in zip(before, trainer.backend.weights(), strict=True))


def test_an_infinite_gradient_is_skipped_too(make: Callable[..., Trainer]) -> None:
    trainer = make("run")
    backend: Any = trainer.backend
    weight = next(value for value in backend.policy.parameters() if value.requires_grad)
    hook = weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(RunError, match="gradient was not finite"):
        train(trainer)
    hook.remove()
    assert all(bool(value.isfinite().all()) for _, value in trainer.backend.weights())


def test_the_watcher_stops_a_run_at_a_checkpoint_when_told_to(make: Callable[..., Trainer]) -> None:
    trainer = make("run", checkpoint_every=100)
    told = replace(trainer, watch=WatchSettings(window=1, truncated=0.0, duplicates=1.0, stop_on=("truncation",)))
    with pytest.raises(RunError, match=r"as watch.stop_on asks: truncation: .*docs/failures/truncation.md"):
        train(told)
    [saved] = checkpoints(trainer.run_dir)
    rows = read_metrics(trainer.run_dir / "metrics.jsonl")
    assert saved.step == len(rows)
    assert rows[-1]["watch/truncation"] == 1.0
    assert [w.trouble for w in read_warnings(trainer.run_dir)][-1] == "truncation"
