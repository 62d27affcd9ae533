"""The JSON of a trace: one object per line, strict JSON (no NaN), the same bytes for the same values.

A line is either a group or a sample that was dropped before it became one:

    {"schema": 1, "kind": "group", "step": 12, "sample": {…}, "prompt": {…}, "dropped": null, "rollouts": [{…}, …]}
    {"schema": 1, "kind": "drop", "step": 12, "dropped": {"sample_id": …, "stage": …, "reason": …, "detail": …}}

Readers outside of Python (DuckDB, jq) can use the files as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mmrl.traces.record import TraceDrop, TraceGroup, TraceRollout
from mmrl.types import (
    Answer,
    Completion,
    Dropped,
    FinishReason,
    Media,
    MediaView,
    RewardResult,
    RewardStatus,
    Rollout,
    Sample,
)

SCHEMA = 1  # of a line; grows when a reader of the former one would misread
Json = dict[str, Any]


def encode_line(record: TraceGroup | TraceDrop) -> bytes:
    """One line of a trace file, newline included."""
    body = _group_json(record) if isinstance(record, TraceGroup) else _drop_json(record)
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate, which UTF-8 cannot hold, becomes the escape \udXXX: that is JSON's own notation for it.
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def decode(record: Json) -> TraceGroup | TraceDrop:
    """The record of one parsed line. Raises KeyError, TypeError or ValueError on a line that is no trace."""
    if record["schema"] > SCHEMA:
        raise ValueError(f"it has schema {record['schema']}, this mmrl reads up to {SCHEMA}: update mmrl")
    return _group(record) if record["kind"] == "group" else _drop(record)


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _group_json(group: TraceGroup) -> Json:
    return {
        "schema": SCHEMA,
        "kind": "group",
        "step": group.step,
        "sample": _sample_json(group.sample),
        "prompt": {
            "text": group.prompt_text,
            "tokens": group.prompt_tokens,
            "views": [asdict(view) for view in group.views],
        },
        "dropped": asdict(group.dropped) if group.dropped else None,
        "rollouts": [_rollout_json(rollout) for rollout in group.rollouts],
    }


def _drop_json(drop: TraceDrop) -> Json:
    return {"schema": SCHEMA, "kind": "drop", "step": drop.step, "dropped": asdict(drop.dropped)}


def _sample_json(sample: Sample) -> Json:
    return {
        "id": sample.id,
        "task": sample.task,
        "question": sample.question,
        "media": [asdict(media) for media in sample.media],
        "choices": list(sample.choices),
        "answer": {
            "type": sample.answer.type,
            "value": plain(sample.answer.value),
            "unit": sample.answer.unit,
            "space": sample.answer.space,
        },
        "metadata": plain(sample.metadata),
    }


def _rollout_json(traced: TraceRollout) -> Json:
    rollout = traced.rollout
    return {
        "index": rollout.index,
        "text": rollout.completion.text,
        "token_count": rollout.completion.token_count,
        "finish_reason": rollout.completion.finish_reason.value,
        "seed": rollout.seed,
        "policy_version": rollout.policy_version,
        "origin": rollout.origin,
        "total": number(traced.total),
        "accuracy": number(traced.accuracy),
        "format": number(traced.format),
        "advantage": None if traced.advantage is None else number(traced.advantage),
        "rewards": {
            name: {
                "value": number(result.value),
                "weight": number(result.weight),
                "status": result.status.value,
                "details": plain(result.details),
                "seconds": rounded(result.seconds),
            }
            for name, result in traced.rewards.items()
        },
        "token_ids": list(rollout.token_ids),
        "behavior_logprobs": [rounded(value) for value in rollout.behavior_logprobs],
        "policy_logprobs": [rounded(value) for value in rollout.policy_logprobs],
        "streams": {name: [rounded(value) for value in values] for name, values in traced.streams.items()},
    }


def number(value: float) -> float | None:
    """The number, or None where JSON has no notation for it (infinite, not a number)."""
    value = float(value)
    return value if math.isfinite(value) else None


def rounded(value: float) -> float | None:
    """`number` with six significant digits: ample for a log-probability, and half the bytes."""
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """JSON of what a reward or a manifest put into a mapping; what JSON does not know becomes its text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    return str(value)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _group(record: Json) -> TraceGroup:
    prompt = record["prompt"]
    views = tuple(_view(view) for view in prompt["views"])
    dropped = Dropped(**record["dropped"]) if record["dropped"] else None
    return TraceGroup(
        step=record["step"],
        sample=decode_sample(record["sample"]),
        prompt_text=prompt["text"],
        prompt_tokens=prompt["tokens"],
        views=views,
        rollouts=tuple(_rollout(rollout, views, trained=dropped is None) for rollout in record["rollouts"]),
        dropped=dropped,
    )


def _view(record: Json) -> MediaView:
    return MediaView(**{**record, "seconds": tuple(record["seconds"]), "frames": tuple(record.get("frames", ()))})


def _drop(record: Json) -> TraceDrop:
    return TraceDrop(step=record["step"], dropped=Dropped(**record["dropped"]))


def decode_sample(record: Json) -> Sample:
    """The sample of a group's line. Raises as `decode` does."""
    answer = record["answer"]
    return Sample(
        id=record["id"],
        task=record["task"],
        question=record["question"],
        media=tuple(Media(**{**media, "paths": tuple(media["paths"])}) for media in record["media"]),
        choices=tuple(record["choices"]),
        answer=Answer(**{**answer, "value": _tuples(answer["value"])}),
        metadata=record["metadata"],
    )


def _rollout(record: Json, views: tuple[MediaView, ...], *, trained: bool) -> TraceRollout:
    return TraceRollout(
        rollout=Rollout(
            completion=Completion(
                text=record["text"],
                token_count=record["token_count"],
                finish_reason=FinishReason(record["finish_reason"]),
                views=views,
            ),
            token_ids=tuple(record["token_ids"]),
            behavior_logprobs=_floats(record["behavior_logprobs"]),
            policy_logprobs=_floats(record["policy_logprobs"]),
            index=record["index"],
            seed=record["seed"],
            policy_version=record["policy_version"],
            origin=record.get("origin", "policy"),
        ),
        rewards={
            name: RewardResult(
                value=_float(result["value"]),
                weight=_float(result["weight"]),
                status=RewardStatus(result["status"]),
                details=result["details"],
                seconds=_float(result["seconds"]),
            )
            for name, result in record["rewards"].items()
        },
        total=_float(record["total"]),
        accuracy=_float(record["accuracy"]),
        format=_float(record["format"]),
        advantage=_float(record["advantage"]) if trained else None,
        streams={name: _floats(values) for name, values in record["streams"].items()},
    )


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _floats(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(_float(value) for value in values)


def _tuples(value: Any) -> Any:
    """An answer's value as `types.Answer` describes it: tuples where JSON has lists."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
