"""Two models, checkpoints or moments of a run on the same samples: who is right, what was won, what was lost.

A side is an evaluation (`evaluation/*.json` of a run folder) or a run's traces: the first or the last time that each
sample was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.errors import ConfigError, RunError
from mmrl.evaluation.estimators import Interval, paired_bootstrap, paired_permutation_test
from mmrl.evaluation.result import EvaluationResult, read_result
from mmrl.evaluation.table import p_value, points
from mmrl.report.completions import gold_text, segments
from mmrl.types import CORRECT_AT, MediaView, Sample
from mmrl_apps.inspector.address import address
from mmrl_apps.inspector.data_page import find_sample
from mmrl_apps.inspector.group_page import drawn_marks, options
from mmrl_apps.shared.marks import Mark, marked_item, said_marks
from mmrl_apps.shared.markup import fragment, message
from mmrl_apps.shared.pictures import ShownMedia, show_media

if TYPE_CHECKING:
    from mmrl_apps.inspector.inspector import Inspector, OpenRun

PAGE = 25
OUTCOMES = ("flips", "won", "lost", "both right", "both wrong", "all")
_FIRST, _LAST = "traces, first time asked", "traces, last time asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one side made of a sample."""

    task: str
    accuracy: float  # of the greedy answer; of traces, the mean of the group
    text: str = ""
    place: tuple[int, int] | None = None  # traces: step and place of the group, where the texts are
    dropped: str = ""
    views: tuple[MediaView, ...] = ()  # an evaluation's, where it kept them


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One sample on both sides."""

    id: str
    task: str
    a: Told
    b: Told

    @property
    def outcome(self) -> str:
        right = (self.a.accuracy >= CORRECT_AT, self.b.accuracy >= CORRECT_AT)
        return {(True, True): "both right", (False, False): "both wrong", (False, True): "won", (True, False): "lost"}[
            right
        ]


def sides(inspector: Inspector) -> list[str]:
    """What can be compared: "run · before", "run · traces, first time asked" …"""
    found = []
    for name in inspector.names:
        run = inspector.run(name)
        found += [f"{name} · {path.stem}" for path in _evaluations(run)]
        if run.index.facets().groups:
            found += [f"{name} · {_FIRST}", f"{name} · {_LAST}"]
    return found


def usual_sides(inspector: Inspector) -> tuple[str | None, str | None]:
    """The pair that is shown first: before and after of one run, else of the first two sides."""
    known = sides(inspector)
    for name in inspector.names:
        pair = f"{name} · before", f"{name} · after"
        if all(side in known for side in pair):
            return pair
    return (known[0], known[1]) if len(known) > 1 else (None, None)


def compare_html(
    inspector: Inspector, a: str | None, b: str | None, *, outcome: str = "flips", task: str = "", page: int = 0
) -> tuple[str, int, list[str]]:
    """(summary and list, how many pairs fit, tasks)."""
    if not a or not b:
        known = sides(inspector)
        return (
            message(
                "Choose two sides to compare. "
                + (
                    f"There are {len(known)}."
                    if known
                    else "There is none yet: a run is evaluated before and after training (`mmrl run`)."
                )
            ),
            0,
            [],
        )
    if outcome not in OUTCOMES:
        raise ConfigError(f"unknown outcome {outcome!r}")
    pairs = _pairs(inspector, a, b)
    tasks = list(dict.fromkeys(pair.task for pair in pairs))
    of_task = [pair for pair in pairs if not task or pair.task == task]
    if not of_task:
        return (
            message(
                f"{a} and {b} have no sample in common, so nothing can be paired. Choose two sides that were asked "
                "the same manifest."
            ),
            0,
            tasks,
        )
    wanted = {"all": OUTCOMES, "flips": ("won", "lost")}.get(outcome, (outcome,))
    fitting = [pair for pair in of_task if pair.outcome in wanted]
    old, new = [pair.a.accuracy for pair in of_task], [pair.b.accuracy for pair in of_task]
    difference: Interval = paired_bootstrap(old, new, seed=0, resamples=1000, confidence=0.95)
    counts = {name: sum(pair.outcome == name for pair in of_task) for name in OUTCOMES[1:5]}
    return (
        fragment(
            "compare.html.j2",
            a=a,
            b=b,
            task=task,
            outcome=outcome,
            counts=counts,
            samples=len(of_task),
            accuracy=(f"{sum(old) / len(old):.1%}", f"{sum(new) / len(new):.1%}"),
            difference=points(difference),
            p=p_value(paired_permutation_test(old, new, seed=0)),
            pairs=[
                {
                    "pair": pair,
                    "address": address("compare", {"a": a, "b": b, "outcome": outcome, "task": task, "id": pair.id}),
                }
                for pair in fitting[page * PAGE : (page + 1) * PAGE]
            ],
        ),
        len(fitting),
        tasks,
    )


def pair_html(inspector: Inspector, a: str | None, b: str | None, id_: str) -> str:
    """One sample with what both sides said of it."""
    pair = next((pair for pair in _pairs(inspector, a or "", b or "") if pair.id == id_), None)
    if pair is None:
        raise RunError(f"{a} and {b} have no sample {id_!r} in common.")
    columns: list[dict[str, Any]] = []
    seen: tuple[MediaView, ...] = ()  # by whichever side kept it: which frames were shown
    sample: Sample | None = None
    guard, item = None, 0
    for which, (side, told) in enumerate(((a or "", pair.a), (b or "", pair.b))):
        run, _ = _side(inspector, side)
        texts: list[tuple[str, float]] = [(told.text, told.accuracy)]
        views = told.views
        if told.place is not None:
            row = run.index.at(*told.place)
            if row is None:
                raise RunError("the run's traces have changed since; choose the sample again.")
            group = run.index.group(row)
            sample, views, guard = group.sample, group.views, run.guard
            texts = [(r.rollout.completion.text, r.accuracy) for r in group.rollouts]
        elif sample is None:
            sample, guard = find_sample(run, id_), run.guard
        if sample is not None:
            item = marked_item(sample, run.rewards()) or item
        seen = seen or views
        columns.append(
            {
                "side": side,
                "told": told,
                "hue": which,
                "views": views,
                "spoken": [text for text, _ in texts],
                "texts": [{"segments": list(segments(text)), "right": right >= CORRECT_AT} for text, right in texts],
            }
        )
    if sample is None or guard is None:
        return fragment(
            "pair.html.j2", pair=pair, sample=None, columns=columns, media=(), marks=[], options=[], gold=""
        )
    media = show_media(sample.media, seen, guard)
    marks = drawn_marks(sample, media, None, item=item)
    if marks and media[item].pictures:
        for column in columns:
            marks[item] += _said(column["spoken"], column["hue"], column["views"], sample, item, media[item])
    return fragment(
        "pair.html.j2",
        pair=pair,
        sample=sample,
        columns=columns,
        media=media,
        marks=marks,
        options=options(sample),
        gold=gold_text(sample.answer),
    )


def _said(
    texts: Sequence[str], who: int, views: Sequence[MediaView], sample: Sample, item: int, shown: ShownMedia
) -> tuple[Mark, ...]:
    """What one side points at. Without a view, as of evaluations of older files, only spans mean something."""
    view = views[item] if item < len(views) else None
    if view is None and sample.answer.type not in ("span", "spans"):
        return ()
    marks = (m for text in texts for m in said_marks(text, who=who, answer=sample.answer, view=view, size=shown.size))
    return tuple(replace(mark, label="AB"[who]) for mark in marks)


def _pairs(inspector: Inspector, a: str, b: str) -> list[Pair]:
    first, second = _told(inspector, a), _told(inspector, b)
    return [Pair(id=id_, task=told.task, a=told, b=second[id_]) for id_, told in first.items() if id_ in second]


def _side(inspector: Inspector, side: str) -> tuple[OpenRun, str]:
    name, _, what = side.rpartition(" · ")
    return inspector.run(name), what


def _told(inspector: Inspector, side: str) -> Mapping[str, Told]:
    run, what = _side(inspector, side)
    if what in (_FIRST, _LAST):
        which = what == _LAST
        return {
            id_: Told(task=ends[which].task, accuracy=ends[which].accuracy, place=(ends[which].step, ends[which].place))
            for id_, ends in run.index.first_and_last().items()
        }
    path = next((path for path in _evaluations(run) if path.stem == what), None)
    if path is None:
        raise ConfigError(f"{run.name} has no evaluation {what!r}.")
    result = _result(path, path.stat().st_mtime_ns)
    return {
        row.id: Told(
            task=row.task,
            accuracy=row.accuracy,
            text=row.text,
            dropped=f"{row.dropped.stage}: {row.dropped.reason}" if row.dropped else "",
            views=row.views,
        )
        for row in result.rows
    }


def _evaluations(run: OpenRun) -> list[Path]:
    folder = run.folder / "evaluation"
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return sorted(found, key=lambda path: {"before": 0, "after": 1}.get(path.stem, 2))


@lru_cache(maxsize=16)
def _result(path: Path, changed: int) -> EvaluationResult:
    return read_result(path)
