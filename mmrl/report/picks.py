"""A few groups worth reading: one each from early, middle and late in the run, and two that are odd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mmrl.traces.reader import TraceReader
from mmrl.traces.record import TraceGroup
from mmrl.types import CORRECT_AT

_STEPS_SEARCHED = 40  # odd groups are looked for in so many steps, spread over the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A group and why it was picked."""

    title: str
    why: str
    group: TraceGroup


def pick_groups(traces: TraceReader) -> list[Pick]:
    """At most five groups, none twice; empty where there are no traces."""
    steps = traces.steps()
    if not steps:
        return []
    picks: list[Pick] = []
    taken: set[tuple[int, str]] = set()

    def take(title: str, why: str, group: TraceGroup | None) -> None:
        if group is not None and (group.step, group.sample.id) not in taken:
            taken.add((group.step, group.sample.id))
            picks.append(Pick(title=title, why=why, group=group))

    moments = {"Early": steps[0], "Middle": steps[len(steps) // 2], "Late": steps[-1]}
    for title, step in moments.items():
        take(title, f"From step {step}.", _telling(traces.read(step).groups))
    for title, why, is_odd in _ODD:
        found = (group for step in reversed(_spread(steps)) for group in traces.read(step).groups)
        fresh = (group for group in found if (group.step, group.sample.id) not in taken)
        take(title, why, next((group for group in fresh if is_odd(group)), None))
    return picks


def _telling(groups: Iterable[TraceGroup]) -> TraceGroup | None:
    """The group whose totals differ most; the first of those that are equal."""
    return max((group for group in groups if group.rollouts), key=_range_of_totals, default=None)


def _range_of_totals(group: TraceGroup) -> float:
    totals = [rollout.total for rollout in group.rollouts]
    return max(totals) - min(totals)


def _one_lucky(group: TraceGroup) -> bool:
    return len(group.rollouts) > 2 and sum(rollout.accuracy >= CORRECT_AT for rollout in group.rollouts) == 1


def _form_only(group: TraceGroup) -> bool:
    return bool(group.rollouts) and all(rollout.format >= CORRECT_AT > rollout.accuracy for rollout in group.rollouts)


_ODD: Sequence[tuple[str, str, Callable[[TraceGroup], bool]]] = (
    ("One lucky", "A single completion is right: is it a better thought, or a guess?", _one_lucky),
    ("Form without substance", "Every completion keeps the form and none is right.", _form_only),
)


def _spread(steps: Sequence[int]) -> list[int]:
    """At most `_STEPS_SEARCHED` of the steps, evenly, the last one among them."""
    stride = -(-len(steps) // _STEPS_SEARCHED)
    return list(steps[::-1][::stride][::-1])
