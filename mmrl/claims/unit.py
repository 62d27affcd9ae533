"""One cold start, or one arm of one seed: train its stages, evaluate, write down what it cost. What is there stays.

OUT/seed-0/start            the cold start            (start-1, start-2 … where it has several stages)
OUT/seed-0/<arm>            a run folder of `mmrl train` or `mmrl sft`, as any other   (<arm>-1, <arm>-2 …)
    trained.json            its model, and what was spent step by step
    evaluation/<name>.json  what the model said, sample by sample; <name>.yaml: the config it was asked by
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrl import build
from mmrl.atomic import write_atomically
from mmrl.claims.configs import evaluation_settings, run_config, stage_settings
from mmrl.claims.schema import START, ArmEntry, Claim, EvaluationEntry, StageEntry
from mmrl.claims.spent import Spent, spent_by_rl, spent_by_sft
from mmrl.config.load import dump_config
from mmrl.config.schema import Config
from mmrl.errors import RunError
from mmrl.evaluation.result import EvaluationResult, read_result
from mmrl.pipeline import cold_start_stage, train_stage
from mmrl.progress import Progress

TRAINED = "trained.json"
EVALUATION = "evaluation"
SPLITS = ("train", "validation")  # of a data set, what a stage is given

Unit = tuple[int, str | None]  # a seed and an arm; None: the seed's cold start


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """A claim under way: what is the same for all its units. Can be sent to another process."""

    claim: Claim
    out: Path  # absolute

    def data_folder(self, name: str) -> Path:
        return self.out / "data" / name

    def folders(self, seed: int, arm: str | None) -> list[Path]:
        """The run folders of an arm's stages; None: of the cold start's. An arm without stages has one all the same."""
        stages = self.stages(arm)
        name = arm or START
        names = [f"{name}-{number}" for number in range(1, len(stages) + 1)] if len(stages) > 1 else [name]
        return [self.out / f"seed-{seed}" / name for name in names]

    def stages(self, arm: str | None) -> Sequence[StageEntry]:
        return self.claim.cold_start if arm is None else self.claim.arms[arm].stages

    @property
    def every_stage_is_evaluated(self) -> bool:
        return any(measure.forgotten is not None for measure in self.claim.measures.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a finished training stage left."""

    model: Path
    steps: list[Spent]


def is_done(replication: Replication, seed: int, arm: str | None) -> bool:
    """Whether nothing of this unit is left to do."""
    folders, stages = replication.folders(seed, arm), replication.stages(arm)
    if any(not (folder / TRAINED).is_file() for folder, _ in zip(folders, stages, strict=False)):
        return False
    return arm is None or all(path.is_file() for path, _ in _evaluations(replication, seed, arm))


def run_unit(replication: Replication, seed: int, arm: str | None, progress: Progress) -> None:
    """Do what is left of a cold start (arm: None) or of an arm, whose cold start must be done."""
    folders, stages = replication.folders(seed, arm), replication.stages(arm)
    model = None if arm is None else start_model(replication, seed)
    entry = None if arm is None else replication.claim.arms[arm]
    for number, (folder, stage) in enumerate(zip(folders, stages, strict=False), start=1):
        what = f"{arm or 'cold_start'}, stage {number} {stage.learner}, seed {seed}"
        model = _trained(replication, folder, entry, stage, what=what, seed=seed, model=model, progress=progress)
        if entry is not None and arm is not None and (replication.every_stage_is_evaluated or number == len(stages)):
            _evaluate(replication, folder, arm, entry, seed=seed, model=model, progress=progress)
    if arm is not None and entry is not None and not stages:
        _evaluate(replication, folders[-1], arm, entry, seed=seed, model=model, progress=progress)


def read_trained(folder: Path) -> Trained:
    """What the stage in this run folder left."""
    fields = json.loads((folder / TRAINED).read_text())
    return Trained(model=folder / fields["model"], steps=[Spent(**step) for step in fields["steps"]])


def read_evaluation(folder: Path, name: str) -> EvaluationResult:
    """What the model of this run folder said."""
    return read_result(folder / EVALUATION / f"{name}.json")


def start_model(replication: Replication, seed: int) -> str | None:
    """The model that every arm of this seed begins with; None: `base` names one, and there is no cold start."""
    if not replication.claim.cold_start:
        path = replication.claim.base.get("model", {}).get("path")
        if path is None:
            raise RunError("the claim has neither a cold start nor a model.path in its base: nothing to begin with.")
        return str(path)
    return str(read_trained(replication.folders(seed, None)[-1]).model)


def stage_config(
    replication: Replication,
    folder: Path,
    arm: ArmEntry | None,
    stage: StageEntry,
    *,
    what: str,
    seed: int,
    model: str | None,
) -> Config:
    """The run config of a stage."""
    claim = replication.claim
    data = _manifests(replication.data_folder(claim.data_of(stage)))
    settings = stage_settings(claim, arm, stage)
    return run_config(settings, what=what, name=folder.name, folder=folder.parent, seed=seed, data=data, model=model)


# ── steps of a unit ──


def _trained(
    replication: Replication,
    folder: Path,
    arm: ArmEntry | None,
    stage: StageEntry,
    *,
    what: str,
    seed: int,
    model: str | None,
    progress: Progress,
) -> str:
    """The model after the stage; trained now if it was not."""
    if (folder / TRAINED).is_file():
        return str(read_trained(folder).model)
    config = stage_config(replication, folder, arm, stage, what=what, seed=seed, model=model)
    begun = (folder / "config.yaml").is_file()
    if stage.learner == "sft":
        left = cold_start_stage(config, out=None, overwrite=begun, progress=progress)  # short: begun anew
        steps = spent_by_sft(folder)
    else:
        left = train_stage(config, resume=begun, overwrite=False, progress=progress)
        steps = spent_by_rl(folder)
    body = {"model": str(Path(left).relative_to(folder)), "steps": [asdict(step) for step in steps]}
    write_atomically(folder / TRAINED, json.dumps(body).encode())
    return str(left)


def _evaluate(
    replication: Replication,
    folder: Path,
    arm: str,
    entry: ArmEntry,
    *,
    seed: int,
    model: str | None,
    progress: Progress,
) -> None:
    from mmrl.data.manifest import read_manifest

    for name, evaluation in replication.claim.evaluations.items():
        path = folder / EVALUATION / f"{name}.json"
        if path.is_file():
            continue
        config = _evaluation_config(replication, folder, entry, evaluation, arm=arm, name=name, seed=seed, model=model)
        samples = read_manifest(replication.data_folder(evaluation.data) / f"{evaluation.split}.jsonl")
        samples = samples[: config.evaluation.limit]
        assert config.model.path is not None
        with build.build_scorer(config, samples) as scorer:
            loaded = build.load_policy(config, config.model.path)
            result = build.evaluate_policy(
                config,
                loaded,
                samples,
                scorer=scorer,
                renderer=build.build_renderer(config, loaded),
                sampled=False,
                progress=progress,
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path.with_suffix(".yaml"), dump_config(config).encode())
        write_atomically(path, json.dumps(result.to_json()).encode())


def _evaluation_config(
    replication: Replication,
    folder: Path,
    entry: ArmEntry,
    evaluation: EvaluationEntry,
    *,
    arm: str,
    name: str,
    seed: int,
    model: str | None,
) -> Config:
    return run_config(
        evaluation_settings(replication.claim, entry, evaluation),
        what=f"{arm}, evaluation {name}",
        name=folder.name,
        folder=folder.parent,
        seed=seed,
        data=_manifests(replication.data_folder(evaluation.data)),
        model=model,
    )


def _evaluations(replication: Replication, seed: int, arm: str) -> list[tuple[Path, str]]:
    """(file, name) of every evaluation an arm is to have."""
    folders = replication.folders(seed, arm)
    asked = folders if replication.every_stage_is_evaluated else folders[-1:]
    return [(folder / EVALUATION / f"{name}.json", name) for folder in asked for name in replication.claim.evaluations]


def _manifests(data: Path) -> dict[str, str]:
    return {split: str(data / f"{split}.jsonl") for split in SPLITS if (data / f"{split}.jsonl").is_file()}
