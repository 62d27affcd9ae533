"""Bar, line and pie charts, drawn by matplotlib, with questions as ChartQA asks them.

    value        "What is the value of mobat?"                     a number; scored with ChartQA's 5 %
    difference   "How much larger is mobat than skila?"            a number
    total        "What is the sum of all values?"                  a number
    above        "How many values are above 40?"                   a count
    extreme      "Which one is the largest?"                       options
    order        "Is mobat larger than skila?"                     yes or no
    share        "What share of the whole is mobat, in percent?"   pies

Plain charts have the values written on them (pies: in percent) or a fine grid and values that lie on it; in hard splits
there are more bars, two series with a legend, and values between the lines of the grid. Names are invented words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from mmrl.data.builders.worlds.chart_drawing import TOP, Chart, draw_chart
from mmrl.data.builders.worlds.words import invented_words
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated
from mmrl.data.source import Draft, NewFile, Source
from mmrl.errors import DataError
from mmrl.types import Answer


class ChartOptions(WorldOptions):
    """Options of the builder `charts`."""

    size: int = Field(224, ge=168, le=2048, description="width of the pictures, pixels; their height is 3/4 of it")
    kinds: tuple[str, ...] = Field(("bar", "line", "pie"), min_length=1, description="of charts")


def build_charts(options: ChartOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One chart per question."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DataError(
            "the builder 'charts' draws with matplotlib, which is not installed. Install it: pip install 'mmrl[data]'"
        ) from None
    unknown = set(options.kinds) - {"bar", "line", "pie"}
    if unknown:
        raise DataError(f"the builder 'charts' draws bar, line and pie; kinds names {', '.join(sorted(unknown))}")
    return generated(
        "charts",
        lambda slot: _make(slot, options),
        seed=seed,
        splits=splits,
        hard_splits=options.hard_splits,
        packages=("matplotlib", "pillow"),
    )


def _make(slot: Slot, options: ChartOptions) -> Draft:
    kind, slot = slot.deal_kind("chart", options.kinds)
    chart = _pie(slot) if kind == "pie" else _axes_chart(slot, kind)
    asks = _PIE_QUESTIONS if kind == "pie" else _QUESTIONS
    about, slot = slot.deal_kind(f"question of {kind}", list(asks))
    task, question, answer, choices = asks[about](slot, chart)
    return Draft(
        key="",
        task=task,
        question=question,
        answer=answer,
        choices=choices,
        media=(NewFile(type="image", content=draw_chart(chart, slot, options.size), suffix=".png"),),
        metadata={
            "kind": about,
            "chart": kind,
            "table": {name: dict(zip(chart.names, values, strict=True)) for name, values in chart.series},
        },
    )


def _axes_chart(slot: Slot, kind: str) -> Chart:
    dice = slot.random
    count = dice.randint(5, 8) if slot.hard else dice.randint(3, 5)
    names = tuple(invented_words(dice, count + 2, syllables=2))
    grid = range(10, TOP) if slot.hard else range(10, TOP, 5)
    series = 2 if slot.hard and dice.random() < 0.6 else 1
    rows = tuple((names[count + i], tuple(dice.sample(grid, count))) for i in range(series))
    return Chart(kind=kind, names=names[:count], series=rows, asked=dice.randrange(series))


def _pie(slot: Slot) -> Chart:
    """Shares in whole percent, each at least 4, all different."""
    dice = slot.random
    count = dice.randint(5, 6) if slot.hard else dice.randint(3, 4)
    while True:
        cuts = sorted(dice.sample(range(4, 97), count - 1))
        shares = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
        if min(shares) >= 4 and len(set(shares)) == count:
            break
    names = tuple(invented_words(dice, count, syllables=2))
    return Chart(kind="pie", names=names, series=(("share", tuple(shares)),), asked=0)


Made = tuple[str, str, Answer, tuple[str, ...]]  # task, question, answer, options


def _value(slot: Slot, chart: Chart) -> Made:
    place = slot.random.randrange(len(chart.names))
    question = f"What is the value{chart.of_series} for {chart.names[place]}?"
    return "value", question, Answer(type="number", value=chart.values[place]), ()


def _difference(slot: Slot, chart: Chart) -> Made:
    high, low = sorted(slot.random.sample(range(len(chart.names)), 2), key=lambda i: -chart.values[i])
    question = f"By how much is the value{chart.of_series} for {chart.names[high]} larger than for {chart.names[low]}?"
    return "value", question, Answer(type="number", value=chart.values[high] - chart.values[low]), ()


def _total(slot: Slot, chart: Chart) -> Made:
    return (
        "value",
        f"What is the sum of all values{chart.of_series}?",
        Answer(type="number", value=sum(chart.values)),
        (),
    )


def _above(slot: Slot, chart: Chart) -> Made:
    """The count is dealt, then the threshold follows from it."""
    count = slot.deal("above", range(1, 4))
    ordered = sorted(chart.values, reverse=True)
    if count >= len(ordered):
        raise DoesNotFit
    low, high = ordered[count], ordered[count - 1]
    limit = (low + high) // 2
    if not low + 2 <= limit <= high - 2:
        raise DoesNotFit
    return "count", f"How many values{chart.of_series} are above {limit}?", Answer(type="number", value=count), ()


def _extreme(slot: Slot, chart: Chart) -> Made:
    word, best = slot.random.choice((("largest", max), ("smallest", min)))
    value = best(chart.values)
    others = [abs(value - other) for other in chart.values if other != value]
    if min(others) < 3:
        raise DoesNotFit
    right = chart.names[chart.values.index(value)]
    wrong = slot.random.sample([name for name in chart.names if name != right], min(3, len(chart.names) - 1))
    choices, answer = slot.options(right, wrong) if len(wrong) == 3 else _three(slot, right, wrong)
    asked = "slice" if chart.kind == "pie" else f"value{chart.of_series}"
    question = f"Which name has the {word} {asked}?"
    return "choice", question, answer, choices


def _three(slot: Slot, right: str, wrong: Sequence[str]) -> tuple[tuple[str, ...], Answer]:
    """Small charts have three names; a fourth option is one that is not in the chart."""
    return slot.options(right, [*wrong, *invented_words(slot.random, 3 - len(wrong), syllables=2)])


def _order(slot: Slot, chart: Chart) -> Made:
    right = slot.deal("order", ("yes", "no"))
    high, low = sorted(slot.random.sample(range(len(chart.names)), 2), key=lambda i: -chart.values[i])
    if chart.values[high] - chart.values[low] < 3:
        raise DoesNotFit
    first, second = (high, low) if right == "yes" else (low, high)
    asked = "slice" if chart.kind == "pie" else f"value{chart.of_series}"
    question = f"Is the {asked} for {chart.names[first]} larger than for {chart.names[second]}?"
    choices, answer = slot.options(right, ["no" if right == "yes" else "yes"])
    return "choice", question, answer, choices


def _share(slot: Slot, chart: Chart) -> Made:
    place = slot.random.randrange(len(chart.names))
    question = f"What share of the whole is {chart.names[place]}, in percent?"
    return "value", question, Answer(type="number", value=chart.values[place], unit="%"), ()


def _two_shares(slot: Slot, chart: Chart) -> Made:
    first, second = slot.random.sample(range(len(chart.names)), 2)
    question = f"What share of the whole are {chart.names[first]} and {chart.names[second]} together, in percent?"
    return "value", question, Answer(type="number", value=chart.values[first] + chart.values[second], unit="%"), ()


Ask = Callable[[Slot, Chart], Made]
_QUESTIONS: Mapping[str, Ask] = {
    "value": _value,
    "difference": _difference,
    "total": _total,
    "above": _above,
    "extreme": _extreme,
    "order": _order,
}
_PIE_QUESTIONS: Mapping[str, Ask] = {
    "share": _share,
    "two shares": _two_shares,
    "extreme": _extreme,
    "order": _order,
}
