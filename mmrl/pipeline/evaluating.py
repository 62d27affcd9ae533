"""Evaluating models: each on the same manifests with the same randomness, nothing generated twice.

Also what an inspector opens: an evaluation's result, and the completions that its figures are of, in a run's folder.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import __version__, build
from mmrl.atomic import write_atomically
from mmrl.config.load import changed, dump_config
from mmrl.config.schema import Config, RewardConfig
from mmrl.errors import ConfigError, DataError, RunError
from mmrl.pipeline.models import config_of_model, plain_config, run_of, usual_rewards
from mmrl.progress import Progress
from mmrl.ranks import ALONE, Ranks
from mmrl.types import Sample

if TYPE_CHECKING:
    from mmrl.evaluation.completion_store import CompletionStore
    from mmrl.evaluation.evaluate import Likelihoods
    from mmrl.evaluation.result import EvaluationResult
    from mmrl.evaluation.stored_engine import StoredEngine
    from mmrl.policy.load import LoadedModel
    from mmrl.policy.policy import Policy
    from mmrl.rollout.engine import RolloutEngine
    from mmrl.types import Dropped, ScoredGroup

    Traces = list[tuple[Sequence[ScoredGroup], Sequence[Dropped]]]  # what was scored and what was dropped, by batch

OWN = "own"  # as the reference model: the one that is evaluated


@dataclass(slots=True)
class Kept:
    """What becomes of completions."""

    store: Path | None = None  # folder where they are kept by content; None: nowhere
    reference: str | None = None  # model whose likelihood of the answers is taken; OWN; None: it is not
    traces: Traces | None = None  # of the first model: filled
    loaded: Policy | None = None  # the reference, where it is a model of its own: filled, so that it is loaded once


def evaluate_models(
    models: Sequence[str],
    data: str,
    *,
    config: Config | None,
    options: Mapping[str, Any],
    progress: Progress,
    keep: Kept | None = None,
) -> list[EvaluationResult]:
    """`mmrl eval`: each model on the same samples with the same randomness.

    Rewards and prompts come from `config`, else from the run a model lies in. `options` are config overrides
    ("evaluation.limit": 100).
    """
    found = evaluate_on(models, {"data": data}, config=config, options=options, progress=progress, keep=keep)
    return [results["data"] for results in found]


def evaluate_on(
    models: Sequence[str],
    manifests: Mapping[str, str],
    *,
    config: Config | None,
    options: Mapping[str, Any],
    progress: Progress,
    keep: Kept | None = None,
) -> list[dict[str, EvaluationResult]]:
    """Each model on the samples of each manifest (name → path): per model, name → result.

    Answers of a kind that a task's rewards in the config, or the default ones, cannot score are scored by the usual
    reward for that kind, and that is said. One model at a time is in memory, beside a reference that is named.
    """
    from mmrl.evaluation.result import SLICED_BY
    from mmrl.evaluation.slices import check_slices

    keep = keep or Kept()
    found = changed_config(config, options) if config is not None else config_to_ask(models[0], options, progress)
    samples = {name: _samples(path) for name, path in manifests.items()}
    named = [key for key in found.evaluation.slice_by if key not in SLICED_BY]
    told = [sample.metadata for some in samples.values() for sample in some]
    check_slices(named, told, where=", ".join(manifests.values()))
    found = with_usual_rewards(found, [sample for some in samples.values() for sample in some], progress)
    results: list[dict[str, EvaluationResult]] = []
    for number, path in enumerate(models):
        traces = keep.traces if number == 0 else None
        results.append(_evaluated(path, manifests, samples, config=found, keep=keep, traces=traces, progress=progress))
        _free_memory()
    return results


def _evaluated(
    path: str,
    manifests: Mapping[str, str],
    samples: Mapping[str, Sequence[Sample]],
    *,
    config: Config,
    keep: Kept,
    traces: Traces | None,
    progress: Progress,
) -> dict[str, EvaluationResult]:
    """One model, which nothing holds any more on return. `traces`: filled with completions on the first manifest."""
    model = build.load_policy(config, path)
    progress.note(f"evaluating {path}")
    own: dict[str, EvaluationResult] = {}
    with asking_model(config, model, keep=keep, progress=progress) as asked:
        for name, some in samples.items():
            renderer = build.build_renderer(config, model)
            try:
                with build.build_scorer(config, some) as scorer:
                    own[name] = build.evaluate_with(
                        config,
                        asked.engine,
                        some,
                        scorer=scorer,
                        renderer=renderer,
                        sampled=True,
                        progress=progress,
                        likelihoods=asked.likelihoods,
                        on_scored=_remember(traces if not own else None),
                        facts={"model": path, **asked.facts, **file_facts(manifests[name])},
                    )
            finally:
                renderer.close()
    return own


def _free_memory() -> None:
    """What a model held goes back to the device before the next one is loaded; modules refer to themselves in rings."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def config_to_ask(model: str, options: Mapping[str, Any], progress: Progress) -> Config:
    """How a model is asked and scored where no config says it: as in its run, or plainly, which is said.

    With `options`, the overrides.
    """
    if run_of(model) is not None:
        return changed_config(config_of_model(model), options)
    mode = options.get("prompt.mode", "think_answer")
    plain = plain_config(model, mode)
    progress.note(
        f"{model} lies in no run folder: it is asked by prompt.mode={mode} and scored by the usual reward for each "
        f"kind of answer; --config CONFIG says otherwise"
    )
    return changed_config(plain, options)


def changed_config(config: Config, options: Mapping[str, Any]) -> Config:
    """`config` with overrides."""
    return changed(config, [f"{key}={json.dumps(value)}" for key, value in options.items()]) if options else config


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A model that is ready to be asked."""

    engine: RolloutEngine
    likelihoods: Likelihoods | None
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a result says of it


@contextmanager
def asking_model(
    config: Config, model: LoadedModel, *, keep: Kept, progress: Progress, ranks: Ranks = ALONE
) -> Iterator[Asked]:
    """An engine that samples from `model`, from what is kept of it where that is known; closed at the end.

    `ranks`: those that each ask an engine of their own.
    """
    from mmrl.evaluation.completion_store import CompletionStore

    facts: dict[str, Any] = {
        "engine": config.rollout.engine,
        "dtype": config.backend.dtype,
        "prompt_mode": config.prompt.mode,
        "run_seed": config.run.seed,
        "mmrl": __version__,
    }
    if keep.reference is not None:
        facts["reference"] = keep.reference
    if keep.store is None:
        with build.open_engine(config, model, ranks=ranks) as engine:
            yield Asked(engine=engine, likelihoods=_likelihoods(config, model, keep, None), facts=facts)
        return
    from mmrl.policy.digest import weights_digest

    digest = weights_digest(model.policy)
    store = CompletionStore(keep.store, model_key=_model_key(config, model, digest))
    stored = _stored_engine(config, model, store, ranks)
    try:
        yield Asked(
            engine=stored,
            likelihoods=_likelihoods(config, model, keep, keep.store),
            facts={**facts, "weights_sha256": digest},
        )
    finally:
        stored.close()
        if stored.found:
            progress.note(f"{stored.found} completions were there already ({keep.store}); {stored.generated} generated")


def _stored_engine(config: Config, model: LoadedModel, store: CompletionStore, ranks: Ranks) -> StoredEngine:
    from mmrl.evaluation.stored_engine import StoredEngine

    return StoredEngine(lambda: build.build_engine(config, model, ranks=ranks), store, run_seed=config.run.seed)


def _model_key(config: Config, model: LoadedModel, digest: str) -> str:
    """Of everything but prompt and sampling that decides what is written."""
    from mmrl.rollout.completions import banned_ids, end_ids

    tokenizer = model.processor.tokenizer
    ends, banned = end_ids(model.policy, tokenizer), banned_ids(model.policy, tokenizer)
    vllm = config.rollout.vllm.dtype if config.rollout.engine != "transformers" else None
    content = json.dumps([digest, config.rollout.engine, vllm, ends, banned])
    return hashlib.sha256(content.encode()).hexdigest()


def _likelihoods(config: Config, model: LoadedModel, keep: Kept, store: Path | None) -> Likelihoods | None:
    if keep.reference is None:
        return None
    from mmrl.evaluation.completion_store import CompletionStore
    from mmrl.evaluation.likelihood import AnswerLikelihood
    from mmrl.policy.digest import weights_digest

    reference = keep.reference
    if reference != OWN and keep.loaded is None:
        keep.loaded = build.load_policy(config, reference).policy
    policy = model.policy if reference == OWN or keep.loaded is None else keep.loaded
    known = CompletionStore(store, model_key=weights_digest(policy)) if store is not None else None
    return AnswerLikelihood(
        policy,
        model.processor.tokenizer,
        device=str(next(policy.parameters()).device),
        micro_batch_tokens=config.train.micro_batch_tokens,
        store=known,
    )


def with_usual_rewards(config: Config, samples: Sequence[Sample], progress: Progress) -> Config:
    """`config` with rewards for every kind of a task's answers that its own, or the default ones, cannot score."""
    from mmrl.rewards.build import reward_uses
    from mmrl.rewards.runtime import set_name, set_of

    plain = {task: [use.model_dump(exclude_none=True) for use in own] for task, own in config.rewards.items()}
    uses = reward_uses(plain)
    more: dict[str, tuple[RewardConfig, ...]] = {}
    for sample in samples:
        kind = sample.answer.type
        name, own = set_name(sample.task, kind), set_of(sample, uses)
        if name in more or (own and all(not use.reward.answers or kind in use.reward.answers for use in own)):
            continue
        more[name] = usual_rewards(kind, config.prompt.mode)
        progress.note(
            f"task {sample.task}: the config has no rewards for it that score answers of type {kind}; scored by "
            f"{more[name][0].name}"
        )
    return config.model_copy(update={"rewards": {**config.rewards, **more}}) if more else config


def file_facts(path: str) -> dict[str, Any]:
    """Which manifest a result is of."""
    with open(path, "rb") as file:
        return {"data": str(Path(path).resolve()), "data_sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _samples(path: str) -> list[Sample]:
    from mmrl.data.manifest import read_manifest

    samples = read_manifest(path)
    if not samples:
        raise DataError(f"{path}: the manifest holds no samples, so there is nothing to evaluate.")
    return samples


def read_untrained(config: Config) -> dict[str, list[Sample]]:
    """The samples of tasks that the run does not train, by the name the config gives them."""
    return {name: _samples(path) for name, path in config.evaluation.untrained.items()}


def _remember(traces: Traces | None) -> Any:
    def heard(groups: Sequence[ScoredGroup], dropped: Sequence[Dropped]) -> None:
        if traces is not None:
            traces.append((groups, dropped))

    return heard


# ── what an inspector opens ──


def save_for_inspector(
    folder: Path,
    name: str,
    result: EvaluationResult,
    *,
    config: Config,
    traces: Sequence[tuple[Sequence[ScoredGroup], Sequence[Dropped]]] = (),
) -> Path:
    """Writes `folder`/evaluation/`name`.json. A folder that is no run yet becomes one, with config and completions.

    Traces are written into such a folder only: those of a training run stay as they are. RunError where the folder is
    something else, or where the name is the run's own.
    """
    from mmrl.evaluation.result import read_result

    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file. Name a run folder, or one that is not there yet.")
    known = any((folder / part).exists() for part in ("config.yaml", "traces", "metrics.jsonl"))
    if folder.is_dir() and any(folder.iterdir()) and not known:
        raise RunError(f"{folder} holds something that is no run. Name a run folder, or one that is not there yet.")
    path = folder / "evaluation" / f"{name}.json"
    if path.exists() and read_result(path).facts.get("model") != result.facts.get("model"):
        raise RunError(f"{path} holds another model's evaluation. Give this one another name, or remove that file.")
    made_here = not known or (folder / MADE_BY).exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    if made_here and (traces or not known):
        data = result.facts.get("data")
        body = config.model_copy(update={"data": config.data.model_copy(update={"test": data, "recipe": None})})
        if body.data.train is None:
            body = body.model_copy(update={"data": body.data.model_copy(update={"train": data})})
        write_atomically(folder / "config.yaml", dump_config(body).encode())
        write_atomically(folder / MADE_BY, b"mmrl eval\n")
    if made_here and traces:
        from mmrl.traces.writer import TraceWriter

        shutil.rmtree(folder / "traces", ignore_errors=True)
        groups = [group for some, _ in traces for group in some]
        TraceWriter(folder / "traces").write(
            0,
            [],
            advantages=[],
            dropped=[drop for _, some in traces for drop in some],
            dropped_groups=[(group, _not_trained(group)) for group in groups],
        )
    write_atomically(path, json.dumps(result.to_json(), indent=1, ensure_ascii=False).encode())
    return path


MADE_BY = ".evaluation"  # marks a folder that `mmrl eval` made


def _not_trained(group: ScoredGroup) -> Dropped:
    from mmrl.types import Dropped

    return Dropped(sample_id=group.group.prompt.sample.id, stage="filter", reason="evaluated, not trained on")


def check_name(name: str) -> str:
    """`name` as a file's; ConfigError where it is none."""
    if not name or not all(character.isalnum() or character in "-_." for character in name) or name.startswith("."):
        raise ConfigError(f"{name!r} cannot name an evaluation: letters, digits, '-', '_' and '.' only.")
    return name
