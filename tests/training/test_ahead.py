"""Rollouts one step ahead, with an engine that has weights of its own: a second copy of the tiny model."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mmrl import build
from mmrl.algorithms.dapo import DAPO
from mmrl.config.load import load_config
from mmrl.credit.filters import MixedCorrectness
from mmrl.errors import ConfigError, RunError
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.rollout.engine import Sampling
from mmrl.rollout.transformers_engine import TransformersEngine
from mmrl.traces.reader import TraceReader
from mmrl.training.checkpoint import checkpoints, load_trainer_state
from mmrl.training.interrupt import Terminated
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics
from mmrl.types import Prompt, RolloutGroup, Sample
from tests import toy
from tests.config.test_mistakes import GOOD
from tests.training.same_run import rows, traced
from tests.training.test_loop import config

STEPS = 4


class OwnWeights:
    """Samples from a copy of the policy, as servers do. Weights that come while it samples are an error."""

    def __init__(self, folder: Path) -> None:
        self._policy = load_model(str(folder))
        self._engine = TransformersEngine(self._policy.policy, self._policy.processor.tokenizer, run_seed=3)
        self._sampling = threading.Lock()
        self.slow = 0.0  # seconds added to every call
        self.version = -1
        self.before: Callable[[int], None] = lambda step: None

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        with self._sampling:
            self.before(step)
            time.sleep(self.slow)
            return self._engine.generate(prompts, sampling, step=step, sizes=sizes)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        assert self._sampling.acquire(blocking=False), "new weights in the middle of sampling"
        own = dict(self._policy.policy.model.named_parameters())
        with torch.no_grad():
            for name, value in weights:
                own[name].copy_(value)
        self._engine.load_weights((), version=version)
        self.version = version
        self._sampling.release()


@pytest.fixture
def samples(pictures: list[Path]) -> list[Sample]:
    return [toy.choice_sample(f"s{i}", [pictures[i % 4]], answer="ABCD"[i % 4]) for i in range(10)]


@pytest.fixture
def make(tmp_path: Path, tiny_folder: Path, samples: list[Sample]) -> Callable[..., Trainer]:
    def trainer(
        name: str,
        *,
        ahead: int = 1,
        model: Path | None = None,
        given: Sequence[Sample] | None = None,
        **train_keys: Any,
    ) -> Trainer:
        settings = config(tmp_path, tiny_folder, **train_keys)
        run_dir = tmp_path / name
        run_dir.mkdir(exist_ok=True)
        own = list(given or samples)
        made = build.build_trainer(
            settings,
            run_dir=run_dir,
            model=load_model(str(model or tiny_folder)),
            train=own,
            validation=[],
            scorer=build.build_scorer(settings, own),
            progress=SilentProgress(),
        )
        return replace(made, engine=OwnWeights(tiny_folder), trackers=(), settings=replace(made.settings, ahead=ahead))

    return trainer


def versions(run_dir: Path) -> list[set[int]]:
    """Of the rollouts of each step."""
    reader = TraceReader(run_dir)
    return [{r.rollout.policy_version for g in reader.read(step).groups for r in g.rollouts} for step in reader.steps()]


def asked(run_dir: Path) -> list[set[str]]:
    """Samples of each step."""
    reader = TraceReader(run_dir)
    return [{group.sample.id for group in reader.read(step).groups} for step in reader.steps()]


def weights(run_dir: Path) -> bytes:
    return (checkpoints(run_dir)[-1].folder / "model.safetensors").read_bytes()


def test_rollouts_are_one_version_behind_and_never_more(make: Callable[..., Trainer]) -> None:
    ahead, beside = make("ahead"), make("beside", ahead=0)
    assert train(ahead) == train(beside) == STEPS
    assert versions(ahead.run_dir) == [{0}, {0}, {1}, {2}]
    assert versions(beside.run_dir) == [{0}, {1}, {2}, {3}]
    for trainer, stale in ((ahead, [0, 1, 1, 1]), (beside, [0, 0, 0, 0])):
        logged = read_metrics(trainer.run_dir / "metrics.jsonl")
        assert [row["rollout/staleness_mean"] for row in logged] == stale
        assert [row["rollout/staleness_max"] for row in logged] == stale
        assert logged[-1]["train/prompts_seen"] == 3 * STEPS
    assert asked(ahead.run_dir) == asked(beside.run_dir)  # the same samples in the same steps
    first, second = (traced(trainer.run_dir) for trainer in (ahead, beside))
    assert first[:3] == second[:3]  # the first step has nothing to be behind
    assert first[3:] != second[3:]


@pytest.mark.slow
def test_whichever_takes_longer_the_run_is_the_same(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_engine, slow_training = make("engine"), make("training")
    engine: Any = slow_engine.engine
    engine.slow = 0.6
    begun: dict[int, float] = {}
    engine.before = lambda step: begun.setdefault(step, time.monotonic())
    assert train(slow_engine) == STEPS
    backward = slow_training.backend.backward

    def slowly(loss: Tensor) -> None:
        time.sleep(0.3)
        backward(loss)

    monkeypatch.setattr(slow_training.backend, "backward", slowly)
    assert train(slow_training) == STEPS
    assert rows(slow_engine.run_dir) == rows(slow_training.run_dir)
    assert traced(slow_engine.run_dir) == traced(slow_training.run_dir)
    assert weights(slow_engine.run_dir) == weights(slow_training.run_dir)
    logged = [read_metrics(trainer.run_dir / "metrics.jsonl") for trainer in (slow_engine, slow_training)]
    waited = [sum(row["time/waited_seconds"] for row in part) for part in logged]
    assert waited[0] > waited[1]
    assert sorted(begun) == list(range(STEPS))  # nothing is asked for steps beyond the last


def test_a_run_that_is_told_to_end_goes_on_bit_for_bit_with_the_groups_that_were_in_flight(
    make: Callable[..., Trainer],
) -> None:
    straight = make("straight", checkpoint_every=100)
    assert train(straight) == STEPS
    told = make("told", checkpoint_every=100)
    engine: Any = told.engine
    engine.before = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None
    with pytest.raises(Terminated):
        train(told)  # the signal comes while step 1 trains and step 2 is sampled
    [saved] = checkpoints(told.run_dir)
    assert saved.step == 2
    resumed = make("told", model=saved.folder, checkpoint_every=100)
    start = load_trainer_state(
        saved,
        backend=resumed.backend,
        sampler=resumed.sampler,
        memory=resumed.memory,
        in_flight=resumed.in_flight,
    )
    other: Any = resumed.engine
    sampled: list[int] = []
    other.before = sampled.append
    assert train(resumed, start=start) == STEPS
    assert sampled == [3]  # step 2's came with the checkpoint
    assert rows(resumed.run_dir) == rows(straight.run_dir)
    assert traced(resumed.run_dir) == traced(straight.run_dir)
    assert weights(resumed.run_dir) == weights(straight.run_dir)


def test_groups_in_flight_whose_picture_is_another_now_are_dropped(
    make: Callable[..., Trainer], samples: list[Sample], tmp_path: Path
) -> None:
    def picture(seed: int, path: Path) -> Path:
        pixels = torch.randint(0, 256, (56, 56, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
        return path

    own = [toy.choice_sample(f"own{i}", [picture(i, tmp_path / f"{i}.png")]) for i in range(12)]
    trainer = make("run", given=own, steps=2)
    train(replace(trainer, settings=replace(trainer.settings, steps=2), in_flight=trainer.in_flight))
    halted = make("halted", given=own)
    halted_engine: Any = halted.engine
    halted_engine.before = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 1 else None
    with pytest.raises(Terminated):
        train(halted)
    [saved] = checkpoints(halted.run_dir)
    [changed, gone, _] = sorted(asked(trainer.run_dir)[1])
    picture(99, tmp_path / f"{changed.removeprefix('own')}.png")
    (tmp_path / f"{gone.removeprefix('own')}.png").write_bytes(b"no picture")
    resumed = make("halted", model=saved.folder, given=own, steps=2)
    start = load_trainer_state(
        saved, backend=resumed.backend, sampler=resumed.sampler, memory=resumed.memory, in_flight=resumed.in_flight
    )
    assert start == 1
    train(resumed, start=start)
    row = read_metrics(resumed.run_dir / "metrics.jsonl")[1]
    assert row["rollout/groups"] == 1
    assert row["rollout/dropped_media"] == 2
    drops = {d.dropped.sample_id: d.dropped.reason for d in TraceReader(resumed.run_dir).drops()}
    assert drops[changed] == "changed since"
    assert set(drops) == {changed, gone}


def test_what_goes_wrong_ahead_ends_the_run_with_its_cause(make: Callable[..., Trainer]) -> None:
    trainer = make("run")
    engine: Any = trainer.engine

    def fails(step: int) -> None:
        if step == 2:
            raise RunError("no rollout server is left")

    engine.before = fails
    notes: list[str] = []

    class Notes(SilentProgress):
        def note(self, text: str) -> None:
            notes.append(text)

    with pytest.raises(RunError, match=r"^no rollout server is left$"):
        train(replace(trainer, progress=Notes()))
    assert notes == ["step 2's rollouts, asked for ahead, failed: the run ends after step 1"]


def test_training_that_fails_does_not_wait_for_what_is_sampled(
    make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make("run")
    engine: Any = trainer.engine
    asleep, end = threading.Event(), threading.Event()
    notes: list[str] = []
    monkeypatch.setattr(trainer.progress, "note", notes.append)

    def hangs(step: int) -> None:
        if step == 1:
            asleep.set()
            assert end.wait(60)
            raise RunError("the engine was closed")

    def breaks(loss: Tensor) -> None:
        assert asleep.wait(60)
        raise RunError("the update broke")

    engine.before = hangs
    monkeypatch.setattr(trainer.backend, "backward", breaks)
    with pytest.raises(RunError, match="the update broke"):
        train(trainer)
    [thread] = [thread for thread in threading.enumerate() if thread.name == "rollouts-1"]
    assert thread.daemon  # which nothing waits for
    end.set()
    thread.join(60)
    assert not notes  # what it came to is nobody's business any more


def test_evaluation_is_of_the_present_weights(make: Callable[..., Trainer]) -> None:
    trainer = make("run")
    engine: Any = trainer.engine
    seen: list[int] = []

    def evaluate() -> dict[str, float]:
        assert not engine._sampling.locked()
        seen.append(engine.version)
        return {"eval/choice_accuracy": 0.5}

    settings = replace(trainer.settings, evaluate_every=1)
    train(replace(trainer, evaluate=evaluate, settings=settings))
    assert seen == [1, 2, 3, 4]
    assert versions(trainer.run_dir) == [{0}, {0}, {1}, {2}]


@pytest.mark.slow
def test_broken_media_filters_and_refills_are_as_without(
    make: Callable[..., Trainer], samples: list[Sample], tmp_path: Path
) -> None:
    """The first two steps are sampled by the same weights, ahead or not, as long as nothing is learnt in the first."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no more")
    bad = [toy.choice_sample(f"bad{i}", [broken]) for i in range(4)]
    drops, kept = [], []
    for ahead in (0, 1):
        trainer = make(f"ahead-{ahead}", ahead=ahead, given=[*samples, *bad], learning_rate=1e-12)
        choosy = replace(trainer, algorithm=replace(DAPO, filters=(MixedCorrectness(threshold=0.5),)))
        train(choosy)
        reader = TraceReader(trainer.run_dir)
        drops.append([(d.step, d.dropped) for d in reader.drops()])
        kept.append([(g.step, g.sample.id, g.dropped) for g in reader.groups()])
    assert drops[0] == drops[1]
    assert kept[0] == kept[1]
    assert drops[0]
    assert any(dropped is not None for _, _, dropped in kept[0])


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"ahead": 1}, r"rollout.ahead: needs rollout.engine vllm_server.* transformers samples from the very weights"),
        ({"ahead": 1, "engine": "vllm"}, r"rollout.ahead: needs .* vllm takes turns with training"),
        ({"ahead": 1, "engine": "vllm_server", "correction": {"kind": "none"}}, r"rollout.ahead: needs rollout.corr"),
        ({"ahead": 2, "engine": "vllm_server"}, r"rollout.ahead: .*0 or 1"),
    ],
)
def test_what_cannot_be_ahead_is_refused(rollout: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD + f"rollout: {rollout}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(path)
