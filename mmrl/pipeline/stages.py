"""The stages of a run, each atomic: data → cold start → screening → RL → evaluation before and after → report.

    runs/<name>/  config.yaml   data/   model/ (a tiny one)   cold_start/   checkpoints/   traces/   metrics.jsonl
                  cold_start.jsonl   screened/   evaluation/{before,after}.json   stages.json   report.json
                  report.html

A stage that is on disk whole is not done again: `--resume` runs what is missing. Nothing of an existing run is
overwritten unless `--overwrite` says so.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import build
from mmrl.atomic import write_atomically
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, RunError
from mmrl.pipeline.models import copy_model
from mmrl.pipeline.run_folder import check_same_data, facts, open_run, timed
from mmrl.progress import Progress, SilentProgress
from mmrl.ranks import ALONE, Ranks, launched, leave
from mmrl.types import Sample

if TYPE_CHECKING:
    from mmrl.data.fetched import Fetched
    from mmrl.policy.load import LoadedModel


class Stopped(Exception):
    """The user asked to stop; what was done is on disk and `--resume` goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineResult:
    """A finished run."""

    run_dir: Path
    report: Mapping[str, Any]  # as in report.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The samples of a run. Empty where the config names no such manifest."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]
    manifests: Mapping[str, str]  # split → its file, of those that are there


def run_pipeline(config: Config, *, resume: bool, overwrite: bool, progress: Progress) -> PipelineResult:
    """`mmrl run`: every stage that the config has and that is not done yet, then the report."""
    from mmrl.report.build import build_report

    build.check_engine_is_installed(config)
    build.check_trackers_are_installed(config)
    with _together(config, progress) as stage:
        ranks = stage.ranks
        tell = stage.progress.note
        run_dir = ranks.first_does(lambda: open_run(config, resume=resume, overwrite=overwrite, tell=tell))
        splits = prepare_data(config, run_dir, stage.progress, ranks)
        started = _prepare_policy(config, run_dir, splits, stage)
        splits = _screened(config, run_dir, started, splits, stage)
        _evaluated(config, run_dir, "before", started, started, splits, stage)
        trained = _train(config, run_dir, started, splits, stage)
        _evaluated(config, run_dir, "after", str(trained), started, splits, stage)
        report = ranks.first_does(lambda: build_report(run_dir, facts=facts(config, run_dir)))
    return PipelineResult(run_dir=run_dir, report=report)


def train_stage(config: Config, *, resume: bool, overwrite: bool, progress: Progress) -> Path:
    """`mmrl train`: the RL stage alone, from `model`. Returns the last checkpoint."""
    build.check_engine_is_installed(config)
    build.check_trackers_are_installed(config)
    with _together(config, progress) as stage:
        ranks = stage.ranks
        tell = stage.progress.note
        run_dir = ranks.first_does(lambda: open_run(config, resume=resume, overwrite=overwrite, tell=tell))
        splits = prepare_data(config, run_dir, stage.progress, ranks)
        base = ranks.first_does(lambda: prepare_model(config, run_dir))
        return _train(config, run_dir, base, _screened(config, run_dir, base, splits, stage), stage)


def cold_start_stage(config: Config, *, out: Path | None, overwrite: bool, progress: Progress) -> Path:
    """`mmrl sft`: the cold start alone. Returns the model's folder (in the run folder, or a copy at `out`)."""
    if config.sft is None:
        raise ConfigError("this config has no `sft` section, so there is no cold start to run. Add one.")
    if out is not None and out.exists():
        raise RunError(f"{out} exists. A model is never overwritten: choose another --out, or remove it first.")
    with _together(config, progress) as stage:
        ranks = stage.ranks
        run_dir = ranks.first_does(lambda: open_run(config, resume=False, overwrite=overwrite))
        splits = prepare_data(config, run_dir, stage.progress, ranks)
        base = ranks.first_does(lambda: prepare_model(config, run_dir))
        folder = _cold_start(config, run_dir, base, splits, stage)
        if out is None:
            return folder
        return ranks.first_does(lambda: copy_model(folder, out))


def prepare_data(config: Config, run_dir: Path, progress: Progress, ranks: Ranks = ALONE) -> Splits:
    """Build the recipe into the run folder (once), read the manifests."""
    from mmrl.config.recipe_settings import settings_in_words
    from mmrl.data.manifest import read_manifest
    from mmrl.data.recipe import build_recipe

    data = config.data
    if data.recipe is not None:
        recipe = data.recipe
        with timed(run_dir, "data", ranks):
            report = ranks.first_does(lambda: build_recipe(recipe, run_dir / "data", progress=progress))
        if said := settings_in_words(config):
            progress.note(said)
        paths = {split: str(path) for split, path in report.manifests.items()}
    else:
        paths = {name: path for name in ("train", "validation", "test") if (path := getattr(data, name)) is not None}
    ranks.first_does(lambda: check_same_data(run_dir, paths))
    urls = data.urls.allow
    splits = Splits(
        **{
            name: read_manifest(paths[name], addresses=urls) if name in paths else []
            for name in ("train", "validation", "test")
        },
        manifests=paths,
    )
    if urls:
        splits = _with_files(config, run_dir, splits, progress, ranks)
    counts = ", ".join(f"{len(getattr(splits, n))} {n}" for n in ("train", "validation", "test"))
    progress.note(f"data: {counts}")
    return splits


def _with_files(config: Config, run_dir: Path, splits: Splits, progress: Progress, ranks: Ranks) -> Splits:
    """The splits with files in place of web addresses; manifests of those that could be had lie in `fetched/`.

    Samples without their files stay in the splits, quarantined, so that they are dropped and counted where others are.
    """
    from mmrl.data.fetched import RECORD, on_disk, with_files
    from mmrl.data.manifest import write_manifest
    from mmrl.data.quarantine import Quarantine

    names = [name for name in ("train", "validation", "test") if name in splits.manifests]
    everything = [sample for name in names for sample in getattr(splits, name)]
    if all(map(on_disk, everything)):
        return splits

    def fetch() -> Fetched:
        with timed(run_dir, "fetch"):
            return build.fetch_addresses(config, everything, record=run_dir / RECORD, progress=progress)

    fetched = ranks.first_does(fetch)
    progress.note(fetched.in_words())
    quarantine = Quarantine(run_dir / "quarantine.jsonl") if ranks.first else None
    found = {name: with_files(getattr(splits, name), fetched, quarantine) for name in names}
    folder = run_dir / "fetched"

    def write() -> None:
        folder.mkdir(exist_ok=True)
        for name in names:
            write_manifest(folder / f"{name}.jsonl", filter(on_disk, found[name]))

    ranks.first_does(write)
    return replace(splits, **found, manifests={name: str(folder / f"{name}.jsonl") for name in names})


def prepare_model(config: Config, run_dir: Path) -> str:
    """The folder or hub name of the model a run starts from; makes the tiny one (once)."""
    if config.model.tiny is None:
        assert config.model.path is not None
        return config.model.path
    from mmrl.policy.tiny import save_tiny_model

    folder = run_dir / "model"
    if not folder.exists():
        save_tiny_model(folder, **config.model.tiny.model_dump())
    return str(folder)


# ── stages ──


@dataclass(frozen=True, slots=True)
class _Stage:
    """Who takes part in a stage, and whom it tells how far it is."""

    ranks: Ranks
    progress: Progress  # silent but on the first rank


@contextmanager
def _together(config: Config, progress: Progress) -> Iterator[_Stage]:
    """Meet the other ranks, if a launcher started several; part when all is done.

    Whatever they do until then, they watch each other: one that dies or hangs ends the rest, which name it.
    """
    if not launched():
        yield _Stage(ALONE, progress)
        return
    from mmrl.rank_watch import RankWatch

    ranks = build.join_ranks(config)
    silent_after, hung_after = config.backend.silent_after_seconds, config.backend.hung_after_seconds
    with RankWatch(ranks, silent_after=silent_after, hung_after=hung_after, tell=_last_words):
        yield _Stage(ranks, progress if ranks.first else SilentProgress())
    leave()


def _last_words(text: str) -> None:
    """Of a rank that ends at once: also of one that is quiet otherwise, where nobody else is left to say it."""
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()


def _prepare_policy(config: Config, run_dir: Path, splits: Splits, stage: _Stage) -> str:
    """The model the RL stage starts from: after the cold start, where there is one."""
    base = stage.ranks.first_does(lambda: prepare_model(config, run_dir))
    if config.sft is None:
        return base
    return str(_cold_start(config, run_dir, base, splits, stage))


def _screened(config: Config, run_dir: Path, start_model: str, splits: Splits, stage: _Stage) -> Splits:
    """The splits with the training samples as screening leaves them, where the config asks for it."""
    if config.screening is None:
        return splits
    from mmrl.pipeline.screening import screened

    kept = screened(config, run_dir, start_model, splits.manifests["train"], splits.train, stage.progress, stage.ranks)
    return replace(splits, train=kept)


def _cold_start(config: Config, run_dir: Path, base: str, splits: Splits, stage: _Stage) -> Path:
    from mmrl.training.metrics import MetricsLog
    from mmrl.training.sft import cold_start

    folder, ranks = run_dir / "cold_start", stage.ranks
    if ranks.first_does(folder.exists):
        return folder
    assert config.sft is not None
    with timed(run_dir, "cold_start", ranks):
        model = build.load_policy(config, base, to_train=True)
        build.add_configured_adapters(config, model)
        backend = build.build_backend(
            config,
            model,
            steps=config.sft.steps,
            learning_rate=config.sft.learning_rate,
            warmup_steps=config.sft.warmup_steps,
            schedule="linear",
            ranks=ranks,
        )
        log = MetricsLog(run_dir / "cold_start.jsonl")
        ranks.first_does(lambda: log.discard_from(0))
        cold_start(
            splits.train,
            renderer=build.build_renderer(config, model, run_dir=run_dir),
            backend=backend,
            tokenizer=model.processor.tokenizer,
            settings=build.cold_start_settings(config),
            log=log.log,
            progress=stage.progress,
            ranks=ranks,
        )
        aside = folder.with_name(".cold_start.partial")
        ranks.first_does(lambda: shutil.rmtree(aside, ignore_errors=True))
        backend.save_model(aside)  # adapters merged: the RL stage begins with new ones
        ranks.first_does(lambda: aside.rename(folder))
    return folder


def _train(config: Config, run_dir: Path, start_model: str, splits: Splits, stage: _Stage) -> Path:
    """RL from the last checkpoint, or from `start_model`. Returns the final checkpoint's folder."""
    from mmrl.training.checkpoint import checkpoints, load_trainer_state, newest_sound
    from mmrl.training.collect import PreparesAhead
    from mmrl.training.loop import train

    ranks, progress = stage.ranks, stage.progress
    found = ranks.first_does(lambda: newest_sound(run_dir, progress.note))
    if found is not None and found.step >= config.train.steps:
        return found.folder
    # A run that goes on past an earlier end has another model: what was said of the old one no longer holds.
    for old in (run_dir / "evaluation").glob("*after.json"):
        old.unlink(missing_ok=True)
    with timed(run_dir, "train", ranks), build.build_scorer(config, splits.train) as scorer:
        # With adapters the model itself stays what it was; a checkpoint's weights have them merged already.
        merged = config.train.lora is not None
        model = build.load_policy(config, str(found.folder) if found and not merged else start_model, to_train=True)
        trainer = build.build_trainer(
            config,
            run_dir=run_dir,
            model=model,
            train=splits.train,
            validation=splits.validation,
            scorer=scorer,
            progress=progress,
            ranks=ranks,
        )
        for idle in trainer.algorithm.idle(splits.train):
            progress.note(f"algorithm {trainer.algorithm.name}: {idle}")
        start = 0
        if found:
            start = load_trainer_state(
                found,
                backend=trainer.backend,
                sampler=trainer.sampler,
                memory=trainer.memory,
                in_flight=trainer.in_flight,
                ranks=ranks,
            )
        try:
            done = train(trainer, start=start)
        finally:
            if isinstance(trainer.renderer, PreparesAhead):
                trainer.renderer.close()
            build.close_engine(trainer.engine)
    if done < config.train.steps:
        raise Stopped(f"{done} of {config.train.steps} steps are done and saved in {run_dir}. Go on with --resume.")
    return checkpoints(run_dir)[-1].folder


def _evaluated(
    config: Config, run_dir: Path, name: str, asked: str, started: str, splits: Splits, stage: _Stage
) -> None:
    """The model `asked` on the test samples, and on tasks that are not trained: evaluation/`name`.json and its like.

    Completions are kept batch by batch, so that an evaluation that was killed goes on where it was. `started`: the
    model that RL begins with, the reference of likelihoods.
    """
    from mmrl.pipeline.evaluating import OWN, Kept, asking_model, file_facts, read_untrained, with_usual_rewards

    ranks, progress = stage.ranks, stage.progress
    folder = run_dir / "evaluation"
    sets = {name: splits.test} if splits.test else {}
    sets |= {f"untrained_{task}_{name}": some for task, some in read_untrained(config).items()}
    paths = {name: splits.manifests.get("test")}
    paths |= {f"untrained_{task}_{name}": path for task, path in config.evaluation.untrained.items()}
    missing = ranks.first_does(lambda: [key for key in sets if not (folder / f"{key}.json").exists()])
    if not missing:
        return
    whole = with_usual_rewards(config, [sample for key in missing for sample in sets[key]], progress)
    reference = (OWN if asked == started else started) if config.evaluation.likelihood else None
    keep = Kept(store=Path(config.evaluation.store or folder / "completions"), reference=reference)
    with timed(run_dir, f"evaluation_{name}", ranks):
        model: LoadedModel = build.load_policy(config, asked)
        with asking_model(config, model, keep=keep, progress=progress, ranks=ranks) as engine:
            for key in missing:
                with build.build_scorer(whole, sets[key]) as scorer:
                    result = build.evaluate_with(
                        whole,
                        engine.engine,
                        sets[key],
                        scorer=scorer,
                        renderer=build.build_renderer(config, model, run_dir=run_dir),
                        sampled=True,
                        progress=progress,
                        ranks=ranks,
                        likelihoods=engine.likelihoods,
                        facts={"model": asked, **engine.facts, **(file_facts(paths[key] or ""))},
                    )
                if ranks.first:
                    folder.mkdir(exist_ok=True)
                    write_atomically(folder / f"{key}.json", json.dumps(result.to_json(), indent=1).encode())
                    figures = result.overall
                    what = "test samples" if key == name else f"samples that are not trained ({key.split('_', 1)[1]})"
                    progress.note(f"accuracy {name}: {figures.accuracy.value:.1%} of {figures.samples} {what}")
