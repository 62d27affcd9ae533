"""Stored predictions as an evaluation: by a benchmark's own rules, or by the rewards of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import __version__, build
from mmrl.config.schema import Config
from mmrl.errors import ConfigError, DataError
from mmrl.pipeline.evaluating import changed_config, file_facts, with_usual_rewards
from mmrl.pipeline.models import plain_config
from mmrl.progress import Progress
from mmrl.types import Dropped, Prompt, Sample

if TYPE_CHECKING:
    from mmrl.evaluation.predictions import Prediction
    from mmrl.evaluation.result import EvaluationResult


_APPLY = ("prompt.mode", "rewards", "scoring", "run.seed", "evaluation.limit", "evaluation.slice_by")


def evaluate_predictions(
    files: Sequence[Path],
    *,
    rules: str | None = None,
    data: str | None = None,
    config: Config | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int | None = None,
    ks: Sequence[int] = (),
    slice_by: Sequence[str] = (),
    progress: Progress,
) -> list[EvaluationResult]:
    """`mmrl eval --predictions`: the lines of each file, as `predictions.py` describes them.

    With `rules`, by that benchmark's code; else by the rewards of `config`, or the usual ones for each kind of answer,
    of the samples that `data` lists or that the lines themselves are. A sample without a prediction counts as wrong.
    `options`: config overrides; ConfigError for one that decides nothing here, as none does where there are rules.
    `limit`: the first samples only. `seed`: of the bootstrap. `ks`: which pass@k. `slice_by`: more keys of metadata.
    DataError where lines of two files might be paired that are not of the same sample (`check_pairs`).
    """
    from mmrl.evaluation.benchmarks import catalog
    from mmrl.evaluation.predictions import check_pairs, read_predictions

    options = options or {}
    chosen = catalog.rules(rules) if rules is not None else None
    for key in options:
        if chosen is not None:
            raise ConfigError(f"{key}: a benchmark's rules have no config. Leave it out, or --rules.")
        if not any(key == known or key.startswith(f"{known}.") for known in _APPLY):
            raise ConfigError(
                f"{key} decides nothing about predictions that are stored already; what does: {', '.join(_APPLY)}."
            )
    read = [read_predictions(file, id_field=chosen.id_field if chosen else "id") for file in files]
    if data is None:
        for others in read[1:]:
            check_pairs(others, read[0])
    if rules is not None:
        return [_by_rules(lines[:limit], rules, seed or 0, ks, slice_by, _facts(lines)) for lines in read]
    mode = options.get("prompt.mode", "think_answer")
    given = {"evaluation.limit": limit, "run.seed": seed}
    used = changed_config(
        config if config is not None else plain_config("stored predictions", mode),
        {**options, **{key: value for key, value in given.items() if value is not None}},
    )
    return [_by_rewards(lines, data, used, ks, slice_by, _facts(lines), progress) for lines in read]


def _by_rules(
    predictions: Sequence[Prediction],
    name: str,
    seed: int,
    ks: Sequence[int],
    slice_by: Sequence[str],
    facts: Mapping[str, Any],
) -> EvaluationResult:
    from mmrl.evaluation.benchmarks import catalog
    from mmrl.evaluation.predictions import score_predictions, settings_for
    from mmrl.evaluation.slices import check_slices

    chosen = catalog.rules(name)  # fresh: MMMU's guesses begin anew in every file
    check_slices(slice_by, (prediction.row for prediction in predictions), where=facts["predictions"])
    by = tuple(dict.fromkeys((*chosen.slice_by, *slice_by)))
    settings = settings_for(predictions, slice_by=by, ks=ks, seed=seed)
    about = {**facts, "rules": name, "source": chosen.source}
    return score_predictions(predictions, chosen, settings=settings, facts=about)


def _by_rewards(
    predictions: Sequence[Prediction],
    data: str | None,
    config: Config,
    ks: Sequence[int],
    slice_by: Sequence[str],
    facts: Mapping[str, Any],
    progress: Progress,
) -> EvaluationResult:
    from mmrl.evaluation.evaluate import evaluate
    from mmrl.evaluation.predictions import StoredPredictions, settings_for
    from mmrl.evaluation.result import SLICED_BY
    from mmrl.evaluation.slices import check_slices
    from mmrl.policy.forms import FORMS

    samples = _samples(predictions, data)[: config.evaluation.limit]
    by = tuple(dict.fromkeys((*config.evaluation.slice_by, *slice_by)))
    named = [key for key in by if key not in SLICED_BY or key in slice_by]
    check_slices(named, (sample.metadata for sample in samples), where=data or facts["predictions"])
    mode = config.prompt.mode
    with build.build_scorer(with_usual_rewards(config, samples, progress), samples) as scorer:
        return evaluate(
            samples,
            render=_unrendered,
            engine=StoredPredictions(predictions),
            scorer=scorer,
            settings=settings_for(predictions, slice_by=by, ks=ks, seed=config.run.seed),
            answer_tag=FORMS[mode].answer_tag,
            facts={**facts, **(file_facts(data) if data is not None else {}), "prompt_mode": mode},
            progress=progress,
        )


def _facts(predictions: Sequence[Prediction]) -> dict[str, Any]:
    return {"predictions": str(_file_of(predictions).resolve()), "mmrl": __version__}


def _file_of(predictions: Sequence[Prediction]) -> Path:
    return Path(predictions[0].where.rpartition(":")[0])


def _samples(predictions: Sequence[Prediction], data: str | None) -> list[Sample]:
    """Of the manifest; without one, the lines are samples themselves."""
    from mmrl.data.manifest import parse_sample, read_manifest

    path = _file_of(predictions)
    if data is not None:
        samples = read_manifest(data)
        known = {sample.id for sample in samples}
        strange = [prediction.id for prediction in predictions if prediction.id not in known]
        if strange:
            raise DataError(
                f"{path}: {len(strange)} predictions have an id that {data} does not know, {strange[0]!r} among them. "
                f"Give each line the id of its sample."
            )
        return samples
    found = []
    for prediction in predictions:
        row = {key: value for key, value in prediction.row.items() if key in _SAMPLE and value is not None}
        if "answer" not in row:
            raise DataError(
                f"{prediction.where}: has no 'answer'. Name a benchmark's rules (--rules), the manifest of the samples "
                f"(--data), or give the answer as in a manifest."
            )
        whole = {"task": "prediction", "question": "?", **row, "id": prediction.id}
        found.append(parse_sample(whole, where=prediction.where, root=path.parent))
    return found


_SAMPLE = ("task", "question", "media", "choices", "answer", "metadata")


def _unrendered(samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
    """Nothing is shown: what was written is there already, with places in the answer's own space."""
    return [Prompt(sample=sample, text="", token_ids=(0,)) for sample in samples], []
