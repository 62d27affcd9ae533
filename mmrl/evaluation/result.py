"""What an evaluation found: per task and overall, and a row per sample so that two models can be compared later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmrl.errors import RunError
from mmrl.evaluation.estimators import Interval
from mmrl.types import CORRECT_AT, Dropped, MediaView

SCHEMA = 2  # of the JSON; 1 had no views


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How completions are drawn and counted."""

    samples_per_prompt: int  # completions of the sampled pass, n; 0: greedy pass only
    ks: tuple[int, ...]  # which pass@k and majority@k; each at most samples_per_prompt
    max_tokens: int  # longest completion, end token included
    temperature: float = 1.0  # of the sampled pass
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    batch_prompts: int = 64  # prompts rendered, sampled and scored together; changes memory and speed only
    correct_at: float = CORRECT_AT  # pass@k: a completion is correct from this accuracy upwards
    confidence: float = 0.95  # of the intervals
    resamples: int = 2000  # of the bootstrap
    seed: int = 0  # of the bootstrap; completions take their seeds from the engine

    def __post_init__(self) -> None:
        if self.samples_per_prompt and not self.ks:
            raise ValueError("evaluation: samples_per_prompt is set but no k: name at least k = 1")
        if any(not 1 <= k <= self.samples_per_prompt for k in self.ks):
            raise ValueError(f"evaluation: every k of {self.ks} must be between 1 and {self.samples_per_prompt}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One sample's outcome. A dropped sample has no text and accuracy 0."""

    id: str
    task: str
    greedy_text: str = ""
    greedy_accuracy: float = 0.0  # in [0, 1]
    greedy_format: float = 0.0  # in [0, 1]
    greedy_tokens: int = 0  # end token included
    greedy_truncated: bool = False
    sampled_accuracies: tuple[float, ...] = ()  # per scored completion of the sampled pass; those missing are wrong
    sampled_answers: tuple[str | None, ...] = ()  # the answer each of them gave; None: none could be found
    reward_failures: int = 0  # rewards that raised or timed out on its completions, which count as wrong
    dropped: Dropped | None = None  # why it could not be asked or scored
    views: tuple[MediaView, ...] = ()  # per media item, where the answer is a place in it: what its numbers mean


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """One task, or all of them together.

    Denominators: accuracy, pass@k and majority@k are means over *all* samples; one that was dropped counts as wrong.
    format_rate, length_mean and truncated_fraction are means over the samples that were answered (0 if none was).
    """

    samples: int
    dropped: int
    accuracy: Interval  # greedy
    sampled_accuracy: Interval | None  # mean over the completions of the sampled pass; None: there was no such pass
    pass_at: Mapping[int, Interval]  # k → pass@k
    majority_at: Mapping[int, Interval]  # k → majority@k
    format_rate: float  # greedy
    length_mean: float  # tokens, greedy
    truncated_fraction: float  # greedy
    reward_failures: int = 0
    drop_reasons: Mapping[str, int] = field(default_factory=dict)  # "stage: reason" → how many


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """An evaluation of one model on one set of samples."""

    settings: EvaluationSettings
    overall: TaskSummary  # every sample counts the same, whatever its task
    tasks: Mapping[str, TaskSummary]  # in order of first appearance
    rows: tuple[SampleRow, ...]  # in the order of the samples

    def to_json(self) -> dict[str, Any]:
        """Strict JSON values; `from_json` gives the equal result back."""
        # Through text and back: tuples become lists and integer keys strings, as they are in the file.
        body: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(self)}, allow_nan=False))
        return body

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> EvaluationResult:
        """Raises KeyError, TypeError or ValueError where `body` is no evaluation result."""
        if body["schema"] > SCHEMA:
            raise ValueError(f"it has schema {body['schema']}, this mmrl reads up to {SCHEMA}: update mmrl")
        settings = body["settings"]
        return EvaluationResult(
            settings=EvaluationSettings(**{**settings, "ks": tuple(settings["ks"]), "stop": tuple(settings["stop"])}),
            overall=_summary(body["overall"]),
            tasks={task: _summary(summary) for task, summary in body["tasks"].items()},
            rows=tuple(_row(row) for row in body["rows"]),
        )


def read_result(path: Path) -> EvaluationResult:
    """The evaluation result in a JSON file."""
    try:
        return EvaluationResult.from_json(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: this file is no evaluation result ({type(error).__name__}: {error}). Run the evaluation again to "
            f"replace it."
        ) from error


def _summary(body: Mapping[str, Any]) -> TaskSummary:
    sampled = body["sampled_accuracy"]
    return TaskSummary(
        **{
            **body,
            "accuracy": Interval(**body["accuracy"]),
            "sampled_accuracy": Interval(**sampled) if sampled else None,
            "pass_at": _per_k(body["pass_at"]),
            "majority_at": _per_k(body["majority_at"]),
        }
    )


def _per_k(body: Mapping[str, Mapping[str, float]]) -> dict[int, Interval]:
    return {int(k): Interval(**interval) for k, interval in body.items()}


def _row(body: Mapping[str, Any]) -> SampleRow:
    lists: dict[str, Sequence[Any]] = {key: tuple(body[key]) for key in ("sampled_accuracies", "sampled_answers")}
    dropped = Dropped(**body["dropped"]) if body["dropped"] else None
    return SampleRow(**{**body, **lists, "dropped": dropped, "views": tuple(map(_view, body.get("views", ())))})


def _view(body: Mapping[str, Any]) -> MediaView:
    return MediaView(**{**body, "seconds": tuple(body["seconds"]), "frames": tuple(body["frames"])})
