"""Results in Markdown: the verdict, the statements it is made of, every measure of every arm, and what was spent."""

from __future__ import annotations

import json

from mmrl.claims.results import ClaimResults, StoredInterval, StoredNumbers, StoredSpent, StoredStatement
from mmrl.claims.schema import MeasureEntry
from mmrl.claims.verdict import Verdict

MARKS = {Verdict.SUPPORTED: "supported", Verdict.NOT_SUPPORTED: "**not supported**", Verdict.UNDECIDED: "*undecided*"}


def results_markdown(results: ClaimResults) -> str:
    """A page of its own."""
    title = f"# {results.claim.question}\n"
    return "\n".join([title, results_body(results, plot="results.svg")])


def results_body(results: ClaimResults, *, plot: str | None) -> str:
    """Everything below a heading. plot: where its picture lies, relative to the page."""
    claim = results.claim
    seeds = len(results.seeds)
    lines = [
        f"**{results.verdict.value.capitalize()}**{' (a quick run: too little to decide)' if results.quick else ''}.",
        "",
        f"Claimed by {claim.source.title} ([arXiv:{claim.source.paper}](https://arxiv.org/abs/{claim.source.paper})): "
        f"{claim.source.says.strip()}",
        "",
        f"In miniature: {claim.miniature.strip()}",
        "",
        statements_table(results),
        "",
        measures_table(results),
        "",
        spent_table(results),
        "",
        f"{seeds} seed{'s' if seeds != 1 else ''}; {_interval_words(results)}.",
        f"{machine_line(results)}",
        *([f"Changed on the command line: `{json.dumps(results.changes)}`."] if results.changes else []),
        "",
    ]
    if plot is not None:
        lines += [f"![{claim.name}: every seed, means and intervals]({plot})", ""]
    return "\n".join(lines)


def statements_table(results: ClaimResults) -> str:
    """One row per statement, ablations last."""
    rows = ["| statement | difference | asked for | verdict |", "|---|---|---|---|"]
    for each in sorted(results.statements, key=lambda statement: not statement.decides):
        measure = results.claim.measures[each.measure]
        beside = "" if each.decides else " (beside)"
        rows.append(
            f"| {each.says}{beside} | {each.measure}, `{each.arm}` − `{each.against}`: {_difference(each, measure)} | "
            f"{asked_for(each, measure)} | {MARKS[each.verdict]}: {each.reason} |"
        )
    return "\n".join(rows)


def measures_table(results: ClaimResults) -> str:
    """Arms down, measures across: mean over seeds and its interval."""
    measures = results.claim.measures
    head = [f"{name}{' %' if entry.percent else ''}" for name, entry in measures.items()]
    rows = [f"| arm | {' | '.join(head)} |", "|---|" + "---|" * len(head)]
    for name, arm in results.arms.items():
        cells = [_cell(arm.measures[measure], entry) for measure, entry in measures.items()]
        rows.append(f"| `{name}`: {arm.says} | {' | '.join(cells)} |")
    told = [f"- {name}{' (%)' if entry.percent else ''}: {entry.says}" for name, entry in measures.items()]
    return "\n".join([*rows, "", *told])


def spent_table(results: ClaimResults) -> str:
    """The budget of every arm, mean over seeds."""
    rows = ["| trained | steps | updates | completions | tokens | seconds |", "|---|---|---|---|---|---|"]
    rows.append(f"| cold start, for all arms | {_spent(results.cold_start)} |")
    rows += [f"| `{name}` | {_spent(arm.spent)} |" for name, arm in results.arms.items()]
    return "\n".join(rows)


def machine_line(results: ClaimResults) -> str:
    """Where, when and how long."""
    machine = results.machine
    where = machine.gpu or f"{machine.processor}, {machine.cores} core{'s' if machine.cores != 1 else ''}"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return (
        f"{machine.date}, {machine.seconds / 60:.1f} minutes, {machine.processes} at a time, on {where} "
        f"({machine.system}); {versions}."
    )


def asked_for(each: StoredStatement, measure: MeasureEntry) -> str:
    """The rule of a statement in words."""
    if each.expect in ("higher", "lower"):
        by = f" by {shown(each.least, measure)} or more" if each.least else ""
        return f"{each.expect}{by}"
    direction = "lower" if each.expect == "no_lower" else "higher"
    return f"at most {shown(each.margin, measure)} {direction}"


def shown(value: float, measure: MeasureEntry, *, sign: bool = False) -> str:
    """A number as its measure is shown."""
    value = 100 * value if measure.percent else value
    if abs(value) >= 1000:
        return f"{value:+,.0f}" if sign else f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 or measure.percent else 3
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _difference(each: StoredStatement, measure: MeasureEntry) -> str:
    if each.interval is not None:
        return _interval(each.interval, measure, sign=True)
    return shown(each.differences[0], measure, sign=True) if each.differences else "–"


def _cell(numbers: StoredNumbers, measure: MeasureEntry) -> str:
    if numbers.interval is not None:
        return _interval(numbers.interval, measure)
    return "–" if numbers.mean is None else shown(numbers.mean, measure)


def _interval(interval: StoredInterval, measure: MeasureEntry, *, sign: bool = False) -> str:
    value, low, high = (shown(x, measure, sign=sign) for x in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def _spent(spent: StoredSpent) -> str:
    return " | ".join(f"{value:,.0f}" for value in spent.model_dump().values())


def _interval_words(results: ClaimResults) -> str:
    rule = results.claim.rule
    kind = "Student's t" if rule.interval == "t" else "percentile bootstrap"
    return (
        f"{rule.confidence:.0%} intervals over seeds ({kind}); differences are of runs with the same seed, which begin "
        "with the same cold start"
    )
