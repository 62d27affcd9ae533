"""Stored predictions as an evaluation: by a benchmark's own rules, or by the rewards of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import __version__, build
from mmrl.config.schema import Config
from mmrl.errors import DataError
from mmrl.pipeline.evaluating import changed_config, file_facts
from mmrl.pipeline.models import usual_rewards
from mmrl.progress import Progress
from mmrl.types import Dropped, Prompt, Sample

if TYPE_CHECKING:
    from mmrl.evaluation.predictions import Prediction
    from mmrl.evaluation.result import EvaluationResult


def evaluate_predictions(
    path: Path,
    *,
    rules: str | None,
    data: str | None,
    config: Config | None,
    options: Mapping[str, Any],
    slice_by: Sequence[str],
    progress: Progress,
) -> EvaluationResult:
    """`mmrl eval --predictions`: the lines of `path`, as `predictions.py` describes them.

    With `rules`, by that benchmark's code; else by the rewards of `config`, or the usual ones for each kind of answer,
    of the samples that `data` lists or that the lines themselves are. A sample without a prediction counts as wrong.
    """
    from mmrl.evaluation.benchmarks import catalog
    from mmrl.evaluation.predictions import read_predictions, score_predictions, settings_for
    from mmrl.evaluation.slices import check_slices

    chosen = catalog.rules(rules) if rules is not None else None
    predictions = read_predictions(path)
    facts: dict[str, Any] = {"predictions": str(path.resolve()), "mmrl": __version__}
    seed = options.get("run.seed", 0)
    if chosen is not None:
        check_slices(slice_by, (prediction.row for prediction in predictions), where=str(path))
        settings = settings_for(predictions, slice_by=(*chosen.slice_by, *slice_by), seed=seed)
        return score_predictions(
            predictions, chosen, settings=settings, facts={**facts, "rules": rules, "source": chosen.source}
        )
    samples = _samples(predictions, data, path)
    check_slices(slice_by, (sample.metadata for sample in samples), where=data or str(path))
    if data is not None:
        facts |= file_facts(data)
    settings = settings_for(predictions, slice_by=tuple(slice_by), seed=seed)
    from mmrl.evaluation.evaluate import evaluate, tagged_answer
    from mmrl.evaluation.predictions import StoredPredictions
    from mmrl.policy.forms import FORMS
    from mmrl.rewards.build import reward_uses
    from mmrl.rewards.runtime import RewardScorer

    if config is not None:
        scorer = build.build_scorer(changed_config(config, options), samples)
        mode = config.prompt.mode
    else:
        mode = "think_answer"
        sets = {sample.task: usual_rewards(sample.answer.type, mode) for sample in samples}
        scorer = RewardScorer(reward_uses({t: [u.model_dump(exclude_none=True) for u in s] for t, s in sets.items()}))
    tag = FORMS[mode].answer_tag
    with scorer:
        return evaluate(
            samples,
            render=_unrendered,
            engine=StoredPredictions(predictions),
            scorer=scorer,
            settings=settings,
            answer_of=lambda text: tagged_answer(text, tag),
            answer_tag=tag,
            facts={**facts, "prompt_mode": mode},
            progress=progress,
        )


def _samples(predictions: Sequence[Prediction], data: str | None, path: Path) -> list[Sample]:
    """Of the manifest; without one, the lines are samples themselves."""
    from mmrl.data.manifest import parse_sample, read_manifest

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
