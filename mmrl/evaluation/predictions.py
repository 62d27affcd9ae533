"""Stored predictions → an evaluation: by a benchmark's own rules, or by mmrl's rewards.

    {"prediction": "B. The chair", "question_type": "object_rel_distance", "ground_truth": "B"}   a benchmark's own row
    {"prediction": "<think>…</think><answer>B</answer>", "id": "digits-test-0007"}                a manifest's sample

`prediction` (or `output`, or `completion`) is what a model wrote: a text, or a list of texts where it was asked several
times, whose first one is what accuracy is of and all of which enter pass@k and majority@k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.data.jsonl import read_json_lines
from mmrl.errors import DataError
from mmrl.evaluation.benchmarks.stored import Rules
from mmrl.evaluation.result import EvaluationResult, EvaluationSettings, SampleRow
from mmrl.evaluation.summary import result_of
from mmrl.rollout.engine import Sampling
from mmrl.types import Completion, FinishReason, Prompt, Rollout, RolloutGroup

FIELDS = ("prediction", "output", "completion")
_LISTED = 10  # bad lines that one message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One line."""

    id: str  # its `id`, or the line's number
    texts: tuple[str, ...]  # at least one
    row: Mapping[str, Any]  # the whole line
    where: str  # file and line, for messages


def read_predictions(path: Path) -> list[Prediction]:
    """All lines, ids made of line numbers where there are none. DataError that names the bad ones."""
    found, bad = [], []
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        try:
            found.append(_prediction(row, where, number))
        except DataError as error:
            bad.append(f"{where}: {error}")
    _refuse(bad)
    if not found:
        raise DataError(f"{path} holds no prediction. Write one JSON object per line, with prediction.")
    ids = [prediction.id for prediction in found]
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise DataError(
            f"{path}: the id {twice!r} stands on several lines. Where a model was asked several times, give one line "
            f"with a list of texts."
        )
    return found


def score_predictions(
    predictions: Sequence[Prediction], rules: Rules, *, settings: EvaluationSettings, facts: Mapping[str, Any]
) -> EvaluationResult:
    """What a benchmark's own code makes of them; DataError where lines lack what it needs."""
    rows, bad = [], []
    for prediction in predictions:
        try:
            scored = [rules.score(text, prediction.row) for text in prediction.texts]
        except DataError as error:
            bad.append(f"{prediction.where}: {error}")
            continue
        first = scored[0]
        several = len(scored) > 1
        rows.append(
            SampleRow(
                id=prediction.id,
                task=first.task or str(facts["rules"]),
                text=prediction.texts[0],
                accuracy=first.accuracy,
                format=first.format,
                measures=dict(first.measures),
                slices={**_told(prediction.row, settings.slice_by), **first.slices},
                sampled_accuracies=tuple(one.accuracy for one in scored) if several else (),
                sampled_answers=tuple(" ".join(text.split()) for text in prediction.texts) if several else (),
                seed_accuracies=(sum(one.accuracy for one in scored) / len(scored),) if several else (),
            )
        )
    _refuse(bad)
    return result_of(rows, settings, facts=facts)


def _told(row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    return {key: str(row[key]) for key in keys if isinstance(row.get(key), str | int | float)}


def settings_for(predictions: Sequence[Prediction], *, slice_by: tuple[str, ...], **more: Any) -> EvaluationSettings:
    """Settings under which these are an evaluation. DataError where lines hold different numbers of texts."""
    counts = {len(prediction.texts) for prediction in predictions}
    if len(counts) > 1:
        raise DataError(
            f"lines hold {min(counts)} to {max(counts)} predictions; pass@k needs as many of every sample. Give lists "
            f"of one length, or one text each."
        )
    count = counts.pop()
    several = count if count > 1 else 0
    ks = tuple(sorted({1, *(2**i for i in range(1, 20) if 2**i <= count), count})) if several else ()
    return EvaluationSettings(samples_per_prompt=several, ks=ks, max_tokens=0, slice_by=slice_by, **more)


class StoredPredictions:
    """An engine that gives back stored texts, by sample id. How long they are in tokens is unknown: 0, unless a line
    says it in `token_count`; a line's `truncated` says that its texts were cut.
    """

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self._known = {prediction.id: prediction for prediction in predictions}

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        counts = sizes or [sampling.group_size] * len(prompts)
        return [
            RolloutGroup(
                prompt=prompt,
                rollouts=tuple(self._rollout(self._known[prompt.sample.id], prompt, i) for i in range(count)),
            )
            for prompt, count in zip(prompts, counts, strict=True)
            if prompt.sample.id in self._known
        ]

    def load_weights(self, weights: Any, *, version: int) -> None:
        """There are none."""

    def _rollout(self, prediction: Prediction, prompt: Prompt, index: int) -> Rollout:
        told = prediction.row.get("token_count")
        length = told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else 0
        cut = bool(prediction.row.get("truncated"))
        return Rollout(
            completion=Completion(
                text=prediction.texts[index],
                token_count=length,
                finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
                views=prompt.views,
            ),
            token_ids=(0,) * length,
            behavior_logprobs=(0.0,) * length,
            policy_logprobs=(0.0,) * length,
            index=index,
            seed=0,
            policy_version=0,
        )


def _prediction(row: Any, where: str, number: int) -> Prediction:
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, dict):
        raise DataError("the line is no JSON object; write {'prediction': …, …}")
    said = next((row[name] for name in FIELDS if row.get(name) is not None), None)
    texts = [text for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]
    if not texts or (isinstance(said, list) and len(texts) < len(said)):
        raise DataError("has no text under 'prediction'; every line needs what the model wrote, or a list of it")
    return Prediction(id=str(row.get("id", f"line-{number}")), texts=tuple(texts), row=row, where=where)


def _refuse(bad: Sequence[str]) -> None:
    if bad:
        more = [f"… and {len(bad) - _LISTED} more bad lines"] if len(bad) > _LISTED else []
        raise DataError("\n".join([*bad[:_LISTED], *more, "Nothing was scored."]))
