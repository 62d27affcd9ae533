"""Stored predictions → an evaluation: by a benchmark's own rules, or by mmrl's rewards.

    {"prediction": "B. The chair", "question_type": "object_rel_distance", "ground_truth": "B"}   a benchmark's own row
    {"prediction": "<think>…</think><answer>B</answer>", "id": "digits-test-0007"}                a manifest's sample

`prediction` (or `output`, or `completion`) is what a model wrote: a text, or a list of texts where it was asked several
times, whose first one is what accuracy is of and all of which enter pass@k and majority@k.

A line's id is its `id`, `sample_id`, `problem_id`, `pid` or `question_id`: the first of these that some line of the
file has and no two share, the benchmark's own before all. Two files are paired by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
ID_FIELDS = ("id", "sample_id", "problem_id", "pid", "question_id")
_ASKED = ("question", "problem", "query", "instruction", "choices", "options")  # fields of a line: what was asked, …
_GOLD = ("answer", "solution", "ground_truth", "golden_choice_idx", "label", "timestamp", "bbox")  # … what is right
_LISTED = 10  # bad lines that one message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One line."""

    id: str  # unique in its file
    named_by: str  # the field it is of; empty: it is the line's number
    texts: tuple[str, ...]  # at least one
    row: Mapping[str, Any]  # the whole line
    where: str  # file and line, for messages


def read_predictions(path: Path, *, id_field: str = "id") -> list[Prediction]:
    """All lines, ids made of line numbers where there are none. DataError that names the bad ones.

    `id_field`: which field is looked at first.
    """
    found: list[tuple[int, Mapping[str, Any], tuple[str, ...]]] = []
    bad = []
    for number, row in read_json_lines(path):
        try:
            found.append((number, *_told_texts(row)))
        except DataError as error:
            bad.append(f"{path}:{number}: {error}")
    _refuse(bad)
    if not found:
        raise DataError(f"{path} holds no prediction. Write one JSON object per line, with prediction.")
    lines = {number: row for number, row, _ in found}
    field, ids = _named(lines, dict.fromkeys((id_field, *ID_FIELDS)), path)
    return [
        Prediction(
            id=ids[number],
            named_by=field if _id_in(row, field) else "",
            texts=texts,
            row=row,
            where=f"{path}:{number}",
        )
        for number, row, texts in found
    ]


def check_pairs(before: Sequence[Prediction], after: Sequence[Prediction]) -> None:
    """DataError where lines of two files would be paired that may be of different samples.

    An id of the same field names the same sample. Line numbers do so only where both files have as many lines and no
    two lines of one number ask something else or have another gold answer; ids of different fields, likewise.
    """
    what = f"Give the lines of both the same `id` (or {', '.join(ID_FIELDS[1:])})."
    first, second = before[0].where.rpartition(":")[0], after[0].where.rpartition(":")[0]
    others = {prediction.id: prediction for prediction in after}
    pairs = [(one, others[one.id]) for one in before if one.id in others]
    if not pairs:
        raise DataError(f"{second} and {first} have no id in common, so that nothing can be compared. {what}")
    if any(not one.named_by for one, _ in pairs) and len(before) != len(after):
        raise DataError(
            f"{second} has {len(after)} lines and {first} {len(before)}, and without ids they would be paired by their "
            f"numbers. {what}"
        )
    for one, other in pairs:
        if one.named_by and one.named_by == other.named_by:
            continue
        for field in (*_ASKED, *_GOLD):
            told = one.row.get(field), other.row.get(field)
            if None not in told and told[0] != told[1]:
                raise DataError(
                    f"{other.where} and {one.where} would be paired ({one.id}), and their {field} differs: they are of "
                    f"different samples. {what}"
                )


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
                sampled_answers=tuple(one.answer for one in scored) if several else (),
                seed_accuracies=(sum(one.accuracy for one in scored) / len(scored),) if several else (),
            )
        )
    _refuse(bad)
    return result_of(rows, settings, facts=facts)


def _told(row: Mapping[str, Any], keys: Sequence[str]) -> dict[str, str]:
    return {key: str(row[key]) for key in keys if isinstance(row.get(key), str | int | float)}


def settings_for(
    predictions: Sequence[Prediction], *, slice_by: tuple[str, ...], ks: Sequence[int] = (), **more: Any
) -> EvaluationSettings:
    """Settings under which these are an evaluation, with pass@k of `ks`; of powers of two where none is named.

    DataError where lines hold different numbers of texts, or fewer than a k.
    """
    counts = {len(prediction.texts) for prediction in predictions}
    if len(counts) > 1:
        raise DataError(
            f"lines hold {min(counts)} to {max(counts)} predictions; pass@k needs as many of every sample. Give lists "
            f"of one length, or one text each."
        )
    count = counts.pop()
    several = count if count > 1 else 0
    if ks and max(ks) > count:
        raise DataError(f"pass@{max(ks)} needs as many texts of every sample (--k), and the lines hold {count}.")
    usual = {1, *(2**i for i in range(1, 20) if 2**i <= count), count} if several else ()
    return EvaluationSettings(
        samples_per_prompt=several,
        ks=tuple(sorted(set(ks or usual))) if several else (),
        max_tokens=0,
        slice_by=slice_by,
        **more,
    )


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


def _told_texts(row: Any) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The line as an object, and what the model wrote."""
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, dict):
        raise DataError("the line is no JSON object; write {'prediction': …, …}")
    said = next((row[name] for name in FIELDS if row.get(name) is not None), None)
    texts = [text for text in (said if isinstance(said, list) else [said]) if isinstance(text, str)]
    if not texts or (isinstance(said, list) and len(texts) < len(said)):
        raise DataError("has no text under 'prediction'; every line needs what the model wrote, or a list of it")
    return row, tuple(texts)


def _named(lines: Mapping[int, Mapping[str, Any]], fields: Iterable[str], path: Path) -> tuple[str, Mapping[int, str]]:
    """The field whose values are ids, and every line's id; an empty field and the lines' numbers where there is none.

    An `id` that two lines share is refused.
    """
    numbers = {number: f"line-{number}" for number in lines}
    for field in fields:
        ids = {number: _id_in(row, field) or numbers[number] for number, row in lines.items()}
        twice = [id_ for id_, count in Counter(ids.values()).items() if count > 1]
        if ids != numbers and not twice:
            return field, ids
        if twice and field == "id":
            raise DataError(
                f"{path}: the id {twice[0]!r} stands on several lines. Where a model was asked several times, give one "
                f"line with a list of texts."
            )
    return "", numbers


def _id_in(row: Mapping[str, Any], field: str) -> str:
    """Empty where there is none; 17.0, as tables write it beside an empty cell, is 17."""
    value = row.get(field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _refuse(bad: Sequence[str]) -> None:
    if bad:
        more = [f"… and {len(bad) - _LISTED} more bad lines"] if len(bad) > _LISTED else []
        raise DataError("\n".join([*bad[:_LISTED], *more, "Nothing was scored."]))
