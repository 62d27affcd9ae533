"""Two ranks: a thread meets the others beside training, groups in flight are shared anew, what is asked is shared."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrl import build
from mmrl.errors import RunError
from mmrl.pipeline.asking import Notices, asked_by_all
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.ranks import Ranks, join, leave
from mmrl.training.checkpoint import checkpoints, load_trainer_state
from mmrl.training.interrupt import Terminated
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics
from mmrl.types import Dropped, Sample, ScoredGroup
from tests import toy
from tests.ranks.test_rank_watch import free_port
from tests.training.same_run import rows, traced
from tests.training.test_ahead import OwnWeights, asked, versions, weights
from tests.training.test_loop import config

pytestmark = pytest.mark.slow

STEPS = 4
PRELOADED = ["tests.ranks.test_beside", "mmrl.policy.qwen2_5_vl", "mmrl.rollout.transformers_engine"]


def on_both(work: Callable[[Ranks, Path], None], folder: Path) -> None:
    """`work` on two ranks at once, to its end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    port = free_port()
    processes = [context.Process(target=_on_a_rank, args=(rank, port, work, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    said = [path.read_text() for path in sorted(folder.glob("failed.*.txt"))]
    for process in processes:
        process.kill()
        process.join()
    assert not said, said[0]
    assert [process.exitcode for process in processes] == [0, 0]


def _on_a_rank(rank: int, port: int, work: Callable[[Ranks, Path], None], folder: Path) -> None:
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)
    )
    torch.set_num_threads(1)
    try:
        work(join("cpu"), folder)
    except BaseException:
        (folder / f"failed.{rank}.txt").write_text(traceback.format_exc())
        raise
    leave()


# ── rollouts ahead ──


def trainer_of(name: str, ranks: Ranks, folder: Path, *, model: Path | None = None) -> Trainer:
    start = folder / "model"
    samples = [toy.choice_sample(f"s{i}", [folder / f"noise-{i % 4}.png"], answer="ABCD"[i % 4]) for i in range(10)]
    settings = config(folder, start, steps=STEPS, checkpoint_every=100)
    run_dir = folder / name
    run_dir.mkdir(exist_ok=True)
    made = build.build_trainer(
        settings,
        run_dir=run_dir,
        model=load_model(str(model or start)),
        train=samples,
        validation=[],
        scorer=build.build_scorer(settings, samples),
        progress=SilentProgress(),
        ranks=ranks,
    )
    return replace(made, engine=OwnWeights(start), trackers=(), settings=replace(made.settings, ahead=1))


def train_ahead(ranks: Ranks, folder: Path) -> None:
    """The run at once; and told to end while step 2 is sampled, then gone on with."""
    train(trainer_of("straight", ranks, folder))
    told = trainer_of("told", ranks, folder)
    engine: Any = told.engine
    engine.before = lambda step: os.kill(os.getpid(), 15) if step == 2 and ranks.rank == 1 else None
    with pytest.raises(Terminated):
        train(told)
    [saved] = checkpoints(told.run_dir)
    resumed = trainer_of("told", ranks, folder, model=saved.folder)
    start = load_trainer_state(
        saved,
        backend=resumed.backend,
        sampler=resumed.sampler,
        memory=resumed.memory,
        in_flight=resumed.in_flight,
        ranks=ranks,
    )
    assert start == 2
    train(resumed, start=start)


def test_ahead_on_two_ranks_and_gone_on_with(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "model").symlink_to(tiny_folder)
    toy.noise_pictures(tmp_path)
    on_both(train_ahead, tmp_path)
    straight, told = tmp_path / "straight", tmp_path / "told"
    assert [row["rollout/staleness_max"] for row in read_metrics(straight / "metrics.jsonl")] == [0, 1, 1, 1]
    assert versions(straight) == [{0}, {0}, {1}, {2}]
    assert [len(samples) for samples in asked(straight)] == [3] * STEPS
    assert rows(told) == rows(straight)
    assert traced(told) == traced(straight)
    assert weights(told) == weights(straight)


# ── asking together ──


def ask_together(ranks: Ranks, folder: Path) -> None:
    samples = [toy.choice_sample(f"s{i}") for i in range(7)]
    mine: list[list[str]] = []

    def ask(given: Sequence[Sample]) -> tuple[list[ScoredGroup], list[Dropped]]:
        mine.append([sample.id for sample in given])
        if any(sample.id == "bad" for sample in given):
            raise RunError("this one cannot be asked")
        scored = [
            toy.scored(toy.random_group(toy.text_prompt(sample.id), size=2, seed=i), [1.0, 0.0])
            for i, sample in enumerate(given)
            if sample.id not in ("s3", "s4")
        ]
        lost = [Dropped(sample_id=s.id, stage="rollout", reason="lost") for s in given if s.id in ("s3", "s4")]
        return scored, lost

    def work(shared: Any) -> list[str]:
        found = []
        for batch in (samples[:4], samples[4:], samples[:1]):  # the last: too few for all
            groups, dropped = shared(batch)
            found += [group.group.prompt.sample.id for group in groups] + [f"-{drop.sample_id}" for drop in dropped]
        return found

    assert asked_by_all(ranks, ask, work) == ["s0", "s1", "s2", "-s3", "s5", "s6", "-s4", "s0"]
    assert mine == [[["s0", "s2"], ["s4", "s6"], ["s0"]], [["s1", "s3"], ["s5"], []]][ranks.rank]
    bad = [toy.choice_sample(name) for name in ("good", "bad")]  # the second is rank 1's
    with pytest.raises(RunError, match="this one cannot be asked"):
        asked_by_all(ranks, ask, lambda shared: shared(bad))

    def gives_up(shared: Any) -> None:
        shared(samples)
        raise RunError("the disk is full")

    with pytest.raises(RunError, match="the disk is full"):
        asked_by_all(ranks, ask, gives_up)
    assert ranks.gather(ranks.rank) == [0, 1]  # nobody is left behind


def test_what_is_asked_is_shared_and_failures_are_everybody_s(tmp_path: Path) -> None:
    on_both(ask_together, tmp_path)


# ── what happens to engines ──


class Losing(OwnWeights):
    """An engine that loses a server at its first call."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.news = ["a server is left out"]

    def take_notices(self) -> list[str]:
        news, self.news = self.news, []
        return news


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def tell_of_all(ranks: Ranks, folder: Path) -> None:
    """The first rank hears of all engines: in training, in evaluation and where samples are asked about."""
    heard = Heard()
    made = trainer_of("news", ranks, folder)
    settings = replace(made.settings, ahead=0, steps=1)
    train(replace(made, engine=Losing(folder / "model"), progress=heard, settings=settings))
    told = ["step 0: a server is left out", "step 0: rank 1: a server is left out"]
    assert [note for note in heard.notes if "left out" in note] == told

    samples = [toy.choice_sample(f"s{i}") for i in range(4)]
    heard = Heard()
    build.evaluate_with(
        config(folder, folder / "model"),
        Losing(folder / "model"),
        samples,
        scorer=build.build_scorer(config(folder, folder / "model"), samples),
        renderer=build.build_renderer(config(folder, folder / "model"), load_model(str(folder / "model"))),
        sampled=False,
        progress=SilentProgress(),
        tell=heard.note,
        ranks=ranks,
    )
    everybody = ["a server is left out", "rank 1: a server is left out"]
    assert heard.notes == (everybody if ranks.first else [])

    heard = Heard()
    notices = Notices(ranks, heard.note)

    def ask(given: Sequence[Sample]) -> tuple[list[ScoredGroup], list[Dropped]]:
        notices.tell("a server is left out")
        return [], []

    asked_by_all(ranks, ask, lambda shared: shared(samples), notices)
    assert heard.notes == (everybody if ranks.first else [])


def test_the_first_rank_tells_what_happens_to_the_engines_of_all(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "model").symlink_to(tiny_folder)
    toy.noise_pictures(tmp_path)
    on_both(tell_of_all, tmp_path)


# ── a group of its own ──


def meet_in_two_threads(ranks: Ranks, folder: Path) -> None:
    apart = ranks.apart()
    found: list[list[int]] = []

    def beside() -> None:
        for i in range(200):
            found.append(apart.gather(1000 * i + ranks.rank))

    thread = threading.Thread(target=beside)
    thread.start()
    for i in range(200):
        assert ranks.add_up(torch.full((3,), float(i))).tolist() == [2.0 * i] * 3
        assert ranks.gather(-i) == [-i, -i]
    thread.join()
    assert found == [[1000 * i, 1000 * i + 1] for i in range(200)]


def test_two_threads_meet_the_other_rank_without_mixing(tmp_path: Path) -> None:
    on_both(meet_in_two_threads, tmp_path)
