"""What an evaluation found: per task and overall, and a row per sample so that two models can be compared later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any, Literal

from mmrl.errors import RunError
from mmrl.evaluation.estimators import Interval
from mmrl.types import CORRECT_AT, Dropped, MediaView

SCHEMA = 3  # of the JSON; 1 had no views, 2 no measures, slices, benchmarks and seeds

Decoding = Literal["greedy", "sampled"]

SLICED_BY = ("question_type", "level")  # metadata whose values are told apart where nothing else is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """How completions are drawn and counted."""

    samples_per_prompt: int  # completions of the sampled pass, n; 0: greedy pass only
    ks: tuple[int, ...]  # which pass@k and majority@k; each at most samples_per_prompt · seeds
    max_tokens: int  # longest completion, end token included
    decoding: Decoding = "greedy"  # what accuracy is of: one greedy completion, or all of the sampled ones
    temperature: float = 1.0  # of the sampled pass
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seeds: int = 1  # how often the sampled pass is made, each time with other random numbers
    slice_by: tuple[str, ...] = SLICED_BY  # keys of metadata: figures are also told for each of their values
    batch_prompts: int = 64  # prompts rendered, sampled and scored together; changes memory and speed only
    correct_at: float = CORRECT_AT  # pass@k: a completion is correct from this accuracy upwards
    confidence: float = 0.95  # of the intervals
    resamples: int = 2000  # of the bootstrap
    seed: int = 0  # of the bootstrap; completions take their seeds from the engine

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"evaluation: seeds is {self.seeds}; it must be at least 1")
        if self.samples_per_prompt and not self.ks:
            raise ValueError("evaluation: samples_per_prompt is set but no k: name at least k = 1")
        if any(not 1 <= k <= self.completions for k in self.ks):
            raise ValueError(f"evaluation: every k of {self.ks} must be between 1 and {self.completions}")
        if self.decoding == "sampled" and not self.samples_per_prompt:
            raise ValueError("evaluation: sampled decoding needs samples_per_prompt of at least 1")

    @property
    def completions(self) -> int:
        """Sampled completions of a sample, over all seeds."""
        return self.samples_per_prompt * self.seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One sample's outcome. A dropped sample has no text and accuracy 0.

    Its *answers* are what accuracy is of: the greedy completion, or all sampled ones (`EvaluationSettings.decoding`).
    """

    id: str
    task: str
    text: str = ""  # the first answer
    accuracy: float = 0.0  # mean over the answers, in [0, 1]; one that was taken out counts as wrong
    format: float = 0.0  # mean over the answers, in [0, 1]
    tokens: float = 0.0  # mean over the answers, end token included
    truncated: float = 0.0  # share of the answers
    measures: Mapping[str, float] = field(default_factory=dict)  # of `measures.py`: mean over the answers it speaks of
    slices: Mapping[str, str] = field(default_factory=dict)  # key of metadata → value, of those in `slice_by`
    sampled_accuracies: tuple[float, ...] = ()  # per scored completion of the sampled pass; those missing are wrong
    sampled_answers: tuple[str | None, ...] = ()  # the answer each of them gave; None: none could be found
    seed_accuracies: tuple[float, ...] = ()  # per seed, mean over its sampled completions
    reward_failures: int = 0  # rewards that raised or timed out on its completions, which count as wrong
    dropped: Dropped | None = None  # why it could not be asked or scored
    views: tuple[MediaView, ...] = ()  # per media item, where the answer is a place in it: what its numbers mean


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """One task, or all of them together.

    Denominators: accuracy, pass@k and majority@k are means over *all* samples; one that was dropped counts as wrong.
    format_rate, length_mean and truncated_fraction are means over the samples that were answered (0 if none was).
    A measure's is in `measured`: the samples that it speaks of (`measures.py` says whether dropped ones are).
    """

    samples: int
    dropped: int
    accuracy: Interval  # of the answers: greedy, or sampled
    sampled_accuracy: Interval | None  # mean over the completions of the sampled pass; None: there was no such pass
    pass_at: Mapping[int, Interval]  # k → pass@k
    majority_at: Mapping[int, Interval]  # k → majority@k
    format_rate: float
    length_mean: float  # tokens
    truncated_fraction: float
    measures: Mapping[str, Interval] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)  # measure → samples it is the mean of
    seed_accuracies: tuple[float, ...] = ()  # sampled accuracy with each seed; empty: no sampled pass
    reward_failures: int = 0
    drop_reasons: Mapping[str, int] = field(default_factory=dict)  # "stage: reason" → how many

    @property
    def seed_deviation(self) -> float | None:
        """Sample standard deviation (n − 1) of the sampled accuracy between seeds; None with fewer than two."""
        return stdev(self.seed_accuracies) if len(self.seed_accuracies) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """An evaluation of one model on one set of samples."""

    settings: EvaluationSettings
    overall: TaskSummary  # every sample counts the same, whatever its task
    tasks: Mapping[str, TaskSummary]  # in order of first appearance
    rows: tuple[SampleRow, ...]  # in the order of the samples
    slices: Mapping[str, Mapping[str, TaskSummary]] = field(default_factory=dict)  # key → value → its samples
    benchmarks: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)  # name → its own figures, in order
    facts: Mapping[str, Any] = field(default_factory=dict)  # how it came to be: model, weights, engine, data

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
        lists = {key: tuple(settings[key]) for key in ("ks", "stop", "slice_by") if key in settings}
        return EvaluationResult(
            settings=EvaluationSettings(**{**settings, **lists}),
            overall=_summary(body["overall"]),
            tasks={task: _summary(summary) for task, summary in body["tasks"].items()},
            rows=tuple(_row(row) for row in body["rows"]),
            slices={
                key: {value: _summary(summary) for value, summary in values.items()}
                for key, values in body.get("slices", {}).items()
            },
            benchmarks={name: _intervals(figures) for name, figures in body.get("benchmarks", {}).items()},
            facts=body.get("facts", {}),
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
            "measures": _intervals(body.get("measures", {})),
            "seed_accuracies": tuple(body.get("seed_accuracies", ())),
        }
    )


def _per_k(body: Mapping[str, Mapping[str, float]]) -> dict[int, Interval]:
    return {int(k): interval for k, interval in _intervals(body).items()}


def _intervals(body: Mapping[str, Mapping[str, float]]) -> dict[str, Interval]:
    return {key: Interval(**interval) for key, interval in body.items()}


_BEFORE_SCHEMA_3 = "greedy_"  # of the names of what is now told of the answers


def _row(body: Mapping[str, Any]) -> SampleRow:
    known = {key.removeprefix(_BEFORE_SCHEMA_3): value for key, value in body.items()}
    names = ("sampled_accuracies", "sampled_answers", "seed_accuracies")
    lists: dict[str, Sequence[Any]] = {key: tuple(known.get(key, ())) for key in names}
    dropped = Dropped(**known["dropped"]) if known["dropped"] else None
    return SampleRow(**{**known, **lists, "dropped": dropped, "views": tuple(map(_view, known.get("views", ())))})


def _view(body: Mapping[str, Any]) -> MediaView:
    return MediaView(**{**body, "seconds": tuple(body["seconds"]), "frames": tuple(body["frames"])})
