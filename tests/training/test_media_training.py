"""Training on clips and pictures, some of them broken: dropped with the reason, refilled, counted, tried once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mmrl import build
from mmrl.config.schema import Config
from mmrl.errors import RunError
from mmrl.policy.load import load_model
from mmrl.progress import SilentProgress
from mmrl.traces.reader import TraceReader
from mmrl.training.collect import PreparesAhead, Renderer
from mmrl.training.loop import Trainer, train
from mmrl.training.metrics import read_metrics, reproducible
from mmrl.types import Dropped, Media, Prompt, Sample
from tests import toy
from tests.clips import write_clip

STEPS = 3


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Four clips, one of them cut off, a picture, and one that is half there."""
    folder = tmp_path_factory.mktemp("media")
    clips = [write_clip(folder / f"{i}.mp4", 12 + i, width=64, height=64) for i in range(4)]
    clips[1].write_bytes(clips[1].read_bytes()[:-300])
    [picture, broken] = toy.noise_pictures(folder, ((56, 56), (60, 60)))
    broken.write_bytes(broken.read_bytes()[:900])
    media = [*(Media(type="video", path=str(path)) for path in clips)]
    media += [Media(type="image", path=str(path)) for path in (picture, broken)]
    return [
        replace(toy.choice_sample(Path(item.path or "").stem, answer="ABCD"[i % 4]), media=(item,))
        for i, item in enumerate(media)
    ]


def trainer(folder: Path, model: Path, samples: Sequence[Sample], *, checked: Sequence[Sample] = ()) -> Trainer:
    config = Config.model_validate(
        {
            "run": {"name": "clips", "folder": str(folder), "seed": 5},
            "model": {"path": str(model)},
            "video": {"fps": 2, "min_pixels": 56 * 56, "max_pixels": 56 * 56},
            "data": {"train": "unused"},
            "rewards": {"default": [{"path": "tests.training.frames_reward:looks"}]},
            "algorithm": {"base": "grpo"},
            "rollout": {"prompts_per_step": 2, "group_size": 3, "max_tokens": 6},
            "train": {"steps": STEPS, "learning_rate": 1e-3},
        }
    )
    folder.mkdir()
    return build.build_trainer(
        config,
        run_dir=folder,
        model=load_model(str(model)),
        train=samples,
        validation=[],
        scorer=build.build_scorer(config, checked or samples[:1]),
        progress=SilentProgress(),
    )


class OnDemand:
    """A renderer that is never told what comes next."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        return self._renderer.render(samples)


def close(trained: Trainer) -> None:
    if isinstance(trained.renderer, PreparesAhead):
        trained.renderer.close()
    trained.scorer.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_broken_clips_are_dropped_refilled_counted_and_tried_once(
    tmp_path: Path, tiny_folder: Path, samples: list[Sample]
) -> None:
    run = tmp_path / "run"
    trained = trainer(run, tiny_folder, samples)
    assert train(trained) == STEPS
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["rollout/groups"] for row in rows] == [2.0] * STEPS  # refilled: no step is short
    names = {"media/dropped_truncated_video": "1", "media/dropped_truncated_image": "noise-1"}
    reader = TraceReader(run)
    for step, row in enumerate(rows):
        dropped = [drop.dropped.sample_id for drop in reader.drops(first=step, last=step)]
        for name, id_ in names.items():
            assert row.get(name, 0.0) == dropped.count(id_)
        assert row.get("rollout/dropped_media", 0.0) == len(dropped)
    # 3 steps of 2 groups and what was dropped: more than the 6 samples of an epoch, so each was asked at least once.
    assert {drop.dropped.sample_id for drop in reader.drops()} == set(names.values())
    entries = [json.loads(line) for line in (run / "quarantine.jsonl").read_text().splitlines()]
    assert {(entry["sample_id"], entry["reason"]) for entry in entries} == {
        ("1", "truncated video"),
        ("noise-1", "truncated image"),
    }
    for group in reader.groups():
        [view] = group.views
        for rollout in group.rollouts:
            [result] = rollout.rewards.values()
            if group.sample.media[0].type == "video":
                assert list(view.frames) == result.details["seen"]  # the reward saw what the model saw
                assert len(view.seconds) == len(view.frames) == 4
                assert view.reader == "decord"
    close(trained)


def test_a_run_of_nothing_but_broken_media_ends_with_the_reasons(
    tmp_path: Path, tiny_folder: Path, samples: list[Sample]
) -> None:
    run = tmp_path / "run"
    trained = trainer(run, tiny_folder, [samples[1], samples[5]], checked=samples[4:5])
    trained = replace(trained, settings=replace(trained.settings, steps=10))
    with pytest.raises(RunError, match=r"steps 0–4 had no group .* 1 × truncated video, 1 × truncated image"):
        train(trained)
    assert len((run / "quarantine.jsonl").read_text().splitlines()) == 2
    close(trained)


@pytest.mark.slow
def test_preparing_ahead_changes_nothing(tmp_path: Path, tiny_folder: Path, samples: list[Sample]) -> None:
    ahead = trainer(tmp_path / "ahead", tiny_folder, samples)
    plain = trainer(tmp_path / "plain", tiny_folder, samples)
    train(ahead)
    train(replace(plain, renderer=OnDemand(plain.renderer)))
    metrics = [
        [reproducible(row) for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("ahead", "plain")
    ]
    assert metrics[0] == metrics[1]
    groups = [list(TraceReader(tmp_path / name).groups()) for name in ("ahead", "plain")]
    assert [(g.sample.id, g.views, [r.rollout for r in g.rollouts]) for g in groups[0]] == [
        (g.sample.id, g.views, [r.rollout for r in g.rollouts]) for g in groups[1]
    ]
    close(ahead)
    close(plain)
