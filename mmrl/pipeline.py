"""The stages of a run, each atomic: data → cold start → RL → evaluation before and after → report.

    runs/<name>/  config.yaml   data/   model/ (a tiny one)   cold_start/   checkpoints/   traces/   metrics.jsonl
                  cold_start.jsonl   evaluation/{before,after}.json   stages.json   report.json   report.html

A stage that is on disk whole is not done again: `--resume` runs what is missing. Nothing of an existing run is
overwritten unless `--overwrite` says so.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import __version__, build
from mmrl.config.load import dump_config, load_config
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, DataError, ModelError, RunError
from mmrl.progress import Progress
from mmrl.types import Answer, Completion, Media, Sample

if TYPE_CHECKING:
    from mmrl.evaluation.result import EvaluationResult
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


def run_pipeline(config: Config, *, resume: bool, overwrite: bool, progress: Progress) -> PipelineResult:
    """`mmrl run`: every stage that the config has and that is not done yet, then the report."""
    run_dir = open_run(config, resume=resume, overwrite=overwrite)
    splits = prepare_data(config, run_dir, progress)
    _, started = _prepare_policy(config, run_dir, splits, progress)
    if splits.test:
        _evaluated(config, run_dir, "before", started, splits.test, progress)
    trained = _train(config, run_dir, started, splits, progress)
    if splits.test:
        _evaluated(config, run_dir, "after", trained, splits.test, progress)
    from mmrl.report.build import build_report

    report = build_report(run_dir, facts=_facts(config, run_dir))
    return PipelineResult(run_dir=run_dir, report=report)


def train_stage(config: Config, *, resume: bool, overwrite: bool, progress: Progress) -> Path:
    """`mmrl train`: the RL stage alone, from `model`. Returns the last checkpoint."""
    run_dir = open_run(config, resume=resume, overwrite=overwrite)
    splits = prepare_data(config, run_dir, progress)
    base = prepare_model(config, run_dir)
    return _train(config, run_dir, base, splits, progress)


def cold_start_stage(config: Config, *, out: Path | None, overwrite: bool, progress: Progress) -> Path:
    """`mmrl sft`: the cold start alone. Returns the model's folder (in the run folder, or a copy at `out`)."""
    if config.sft is None:
        raise ConfigError("this config has no `sft` section, so there is no cold start to run. Add one.")
    if out is not None and out.exists():
        raise RunError(f"{out} exists. A model is never overwritten: choose another --out, or remove it first.")
    run_dir = open_run(config, resume=False, overwrite=overwrite)
    splits = prepare_data(config, run_dir, progress)
    folder = _cold_start(config, run_dir, prepare_model(config, run_dir), splits, progress)
    if out is None:
        return folder
    return _copy_model(folder, out)


def open_run(config: Config, *, resume: bool, overwrite: bool) -> Path:
    """The run's folder, with its resolved config in it. RunError when it is in the way or belongs to another config."""
    run_dir = Path(config.run.folder) / config.run.name
    written = dump_config(config)
    if run_dir.exists() and not run_dir.is_dir():
        raise RunError(f"{run_dir} is a file. Choose another run.name or run.folder.")
    if run_dir.exists() and any(run_dir.iterdir()):
        if overwrite:
            if not (run_dir / "config.yaml").is_file():
                raise RunError(
                    f"{run_dir} holds no run of mmrl, so --overwrite leaves it alone. Choose another run.name."
                )
            shutil.rmtree(run_dir)
        elif not resume:
            state = "finished" if (run_dir / "report.json").is_file() else "unfinished"
            raise RunError(
                f"{run_dir} holds a {state} run. Go on with --resume, start anew under another name with "
                f"run.name=…, or throw it away with --overwrite."
            )
        else:
            _check_same_config(run_dir, config)
    elif resume:
        raise RunError(f"{run_dir}: there is no run to resume. Leave out --resume to start one.")
    run_dir.mkdir(parents=True, exist_ok=True)
    _write_text(run_dir / "config.yaml", written)
    return run_dir


def prepare_data(config: Config, run_dir: Path, progress: Progress) -> Splits:
    """Build the recipe into the run folder (once), read the manifests."""
    from mmrl.data.manifest import read_manifest
    from mmrl.data.recipe import build_recipe

    data = config.data
    if data.recipe is not None:
        with _timed(run_dir, "data"):
            report = build_recipe(data.recipe, run_dir / "data", progress=progress)
        paths = {split: str(path) for split, path in report.manifests.items()}
    else:
        paths = {name: path for name in ("train", "validation", "test") if (path := getattr(data, name)) is not None}
    splits = Splits(
        **{name: read_manifest(paths[name]) if name in paths else [] for name in ("train", "validation", "test")}
    )
    counts = ", ".join(f"{len(getattr(splits, n))} {n}" for n in ("train", "validation", "test"))
    progress.note(f"data: {counts}")
    return splits


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


def evaluate_models(
    models: Sequence[str], data: str, *, config: Config | None, options: Mapping[str, Any], progress: Progress
) -> list[EvaluationResult]:
    """`mmrl eval`: each model on the same samples with the same randomness.

    Rewards and prompts come from `config`, else from the run a model lies in. `options` are config overrides
    ("evaluation.limit": 100).
    """
    from mmrl.data.manifest import read_manifest

    found = config or config_of_model(models[0])
    if options:
        found = _overridden(found, options)
    samples = read_manifest(data)
    if not samples:
        raise DataError(f"{data}: the manifest holds no samples, so there is nothing to evaluate.")
    results = []
    with build.build_scorer(found, samples) as scorer:
        for path in models:
            model = build.load_policy(found, path)
            progress.note(f"evaluating {path}")
            results.append(
                build.evaluate_policy(
                    found,
                    model,
                    samples,
                    scorer=scorer,
                    renderer=build.build_renderer(found, model),
                    sampled=True,
                    progress=progress,
                )
            )
    return results


def config_of_model(path: str) -> Config:
    """The config of the run a model folder lies in: how it was prompted and what was correct."""
    for folder in [Path(path).resolve(), *Path(path).resolve().parents][:4]:
        if (folder / "config.yaml").is_file():
            return load_config(folder / "config.yaml")
    raise ConfigError(
        f"{path} lies in no run folder, so its prompts and rewards are not known. Say them with --config CONFIG."
    )


def generate_answer(
    model: str,
    question: str,
    media: Sequence[str],
    *,
    choices: Sequence[str] = (),
    mode: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 256,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> Completion:
    """`mmrl generate`: one completion about the given pictures.

    Without `mode`, the form the model's run was trained in, else reasoning and answer. `on_text` gets the pieces as
    they are written.
    """
    from mmrl.policy.load import load_model
    from mmrl.policy.render import Renderer
    from mmrl.rollout.engine import Sampling
    from mmrl.rollout.transformers_engine import TransformersEngine

    loaded = load_model(model)
    sample = Sample(
        id="question",
        task="question",
        question=question,
        media=tuple(Media(type="image", path=str(Path(path).resolve())) for path in media),
        choices=tuple(choices),
        # The answer is what is being asked; only its type is used, to word the instruction.
        answer=Answer(type="choice", value="A") if choices else Answer(type="text", value=""),
    )
    form = mode or _mode_of_model(model)
    renderer = Renderer(loaded.processor, loaded.policy.family, loaded.policy.config, mode=form)  # type: ignore[arg-type]
    prompts, dropped = renderer.render([sample])
    if dropped:
        raise DataError(f"{dropped[0].detail}")
    engine = TransformersEngine(loaded.policy, loaded.processor.tokenizer, run_seed=seed)
    sampling = Sampling(group_size=1, max_tokens=max_tokens, temperature=temperature, purpose="generate")
    return engine.stream(prompts[0], sampling, on_text=on_text or (lambda text: None)).completion


def export_run(run: Path, out: Path, *, step: int | None = None) -> Path:
    """`mmrl export`: a checkpoint's model files without the trainer's state; the newest unless `step` is given."""
    from mmrl.training.checkpoint import checkpoints

    if not run.is_dir():
        raise RunError(f"{run}: there is no run folder.")
    found = {c.step: c for c in checkpoints(run)}
    if not found:
        raise RunError(f"{run}: the run has no checkpoint yet.")
    if step is not None and step not in found:
        raise RunError(f"{run}: no checkpoint of step {step}. There are: {', '.join(map(str, found))}.")
    chosen = found[step if step is not None else max(found)]
    if out.exists():
        raise RunError(f"{out} exists. A model is never overwritten: choose another folder, or remove it first.")
    return _copy_model(chosen.folder, out)


# ── stages ──


def _prepare_policy(config: Config, run_dir: Path, splits: Splits, progress: Progress) -> tuple[str, str]:
    """(the model as it came, the model the RL stage starts from)."""
    base = prepare_model(config, run_dir)
    if config.sft is None:
        return base, base
    return base, str(_cold_start(config, run_dir, base, splits, progress))


def _cold_start(config: Config, run_dir: Path, base: str, splits: Splits, progress: Progress) -> Path:
    from mmrl.training.metrics import MetricsLog
    from mmrl.training.sft import cold_start

    folder = run_dir / "cold_start"
    if folder.exists():
        return folder
    assert config.sft is not None
    with _timed(run_dir, "cold_start"):
        model = build.load_policy(config, base)
        backend = build.build_backend(
            config,
            model,
            steps=config.sft.steps,
            learning_rate=config.sft.learning_rate,
            warmup_steps=config.sft.warmup_steps,
            schedule="linear",
        )
        log = MetricsLog(run_dir / "cold_start.jsonl")
        log.discard_from(0)
        cold_start(
            splits.train,
            renderer=build.build_renderer(config, model),
            backend=backend,
            tokenizer=model.processor.tokenizer,
            settings=build.cold_start_settings(config),
            log=log.log,
            progress=progress,
        )
        aside = folder.with_name(".cold_start.partial")
        shutil.rmtree(aside, ignore_errors=True)
        model.save(aside)
        aside.rename(folder)
    return folder


def _train(config: Config, run_dir: Path, start_model: str, splits: Splits, progress: Progress) -> Path:
    """RL from the last checkpoint, or from `start_model`. Returns the final checkpoint's folder."""
    from mmrl.training.checkpoint import checkpoints, load_trainer_state
    from mmrl.training.loop import train

    found = checkpoints(run_dir)
    if found and found[-1].step >= config.train.steps:
        return found[-1].folder
    with _timed(run_dir, "train"), build.build_scorer(config, splits.train) as scorer:
        model = build.load_policy(config, str(found[-1].folder) if found else start_model)
        trainer = build.build_trainer(
            config,
            run_dir=run_dir,
            model=model,
            train=splits.train,
            validation=splits.validation,
            scorer=scorer,
            progress=progress,
        )
        start = load_trainer_state(found[-1], backend=trainer.backend, sampler=trainer.sampler) if found else 0
        done = train(trainer, start=start)
    if done < config.train.steps:
        raise Stopped(f"{done} of {config.train.steps} steps are done and saved in {run_dir}. Go on with --resume.")
    return checkpoints(run_dir)[-1].folder


def _evaluated(
    config: Config, run_dir: Path, name: str, model_path: str | Path, samples: Sequence[Sample], progress: Progress
) -> None:
    path = run_dir / "evaluation" / f"{name}.json"
    if path.exists():
        return
    with _timed(run_dir, f"evaluation_{name}"), build.build_scorer(config, samples) as scorer:
        model: LoadedModel = build.load_policy(config, str(model_path))
        result = build.evaluate_policy(
            config,
            model,
            samples,
            scorer=scorer,
            renderer=build.build_renderer(config, model),
            sampled=True,
            progress=progress,
        )
    path.parent.mkdir(exist_ok=True)
    _write_text(path, json.dumps(result.to_json(), indent=1))
    progress.note(f"accuracy {name}: {result.overall.accuracy.value:.1%} of {result.overall.samples} test samples")


# ── around the stages ──


@contextmanager
def _timed(run_dir: Path, stage: str) -> Iterator[None]:
    """Adds the stage's seconds and the process's peak memory to stages.json, over all processes of the run."""
    from mmrl.training.loop import peak_memory_mib

    began = time.perf_counter()
    try:
        yield
    finally:
        path = run_dir / "stages.json"
        stages: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
        before = stages.get(stage, {"seconds": 0.0, "peak_mib": 0.0})
        stages[stage] = {
            "seconds": round(before["seconds"] + time.perf_counter() - began, 3),
            "peak_mib": round(max(before["peak_mib"], peak_memory_mib()), 1),
        }
        _write_text(path, json.dumps(stages, indent=1))


def _facts(config: Config, run_dir: Path) -> dict[str, Any]:
    """What the report says about how it came to be."""
    import torch
    import transformers

    stages = json.loads((run_dir / "stages.json").read_text())
    return {
        "run": config.run.name,
        "seed": config.run.seed,
        "stages": stages,
        "versions": {
            "mmrl": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "threads": torch.get_num_threads(),
    }


def _check_same_config(run_dir: Path, config: Config) -> None:
    """A resumed run keeps its config; only how long it is and where output goes may change."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise RunError(f"{run_dir} has no config.yaml, so it is no run that could be resumed. Choose another run.name.")
    before = load_config(path).model_dump(mode="json")
    now = config.model_dump(mode="json")
    for free in (("run", "folder"), ("train", "steps"), ("train", "checkpoint_every"), ("train", "keep_checkpoints")):
        before[free[0]].pop(free[1])
        now[free[0]].pop(free[1])
    changed = [
        f"{section}.{key}" if isinstance(now[section], dict) and isinstance(before[section], dict) else section
        for section in now
        for key in (now[section] if isinstance(now[section], dict) else [""])
        if _value(before[section], key) != _value(now[section], key)
    ]
    if changed:
        raise RunError(
            f"{run_dir} was started with another config: {', '.join(dict.fromkeys(changed))} differ. Resume with the "
            f"same settings (mmrl run {path} --resume), or start anew under another run.name."
        )


def _value(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else section


def _mode_of_model(model: str) -> str:
    try:
        return config_of_model(model).prompt.mode
    except ConfigError:
        return "think_answer"


def _overridden(config: Config, options: Mapping[str, Any]) -> Config:
    body = config.model_dump(mode="json")
    for key, value in options.items():
        section, _, name = key.partition(".")
        body[section][name] = value
    return Config.model_validate(body)


def _copy_model(folder: Path, out: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no model there.")
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(folder, aside, ignore=shutil.ignore_patterns("trainer"))
    aside.rename(out)
    return out


def _write_text(path: Path, text: str) -> None:
    """Whole or not at all."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(text)
    aside.replace(path)
