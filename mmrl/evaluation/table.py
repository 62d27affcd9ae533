"""Tables people read: one evaluation, or a model before and after, as aligned text or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.evaluation.compare import Comparison, TaskComparison
from mmrl.evaluation.estimators import Interval
from mmrl.evaluation.measures import MEASURES
from mmrl.evaluation.result import EvaluationResult, TaskSummary

ALL = "all"  # the row of all tasks together

Rows = list[list[str]]  # the first is the head


def text_table(rows: Rows) -> str:
    """Columns aligned by spaces: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]]).rstrip()


def markdown_table(rows: Rows) -> str:
    """The same as a Markdown table; a bar inside a cell is escaped."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])


def result_rows(result: EvaluationResult) -> Rows:
    """One model: accuracy with its interval, pass@k, format, length, truncation, and what was dropped."""
    ks = sorted(result.overall.pass_at)
    head = ["task", "samples", "accuracy", *(f"pass@{k}" for k in ks), "format", "tokens", "truncated"]
    with_drops = result.overall.dropped > 0
    rows = [[*head, "dropped"] if with_drops else head]
    for name, summary in _named(result):
        row = [
            name,
            str(summary.samples),
            with_interval(summary.accuracy),
            *(percent(summary.pass_at[k].value) for k in ks),
            percent(summary.format_rate),
            f"{summary.length_mean:.1f}",
            percent(summary.truncated_fraction),
        ]
        rows.append([*row, str(summary.dropped)] if with_drops else row)
    return rows


def measure_rows(result: EvaluationResult) -> Rows:
    """One model, further: sampled accuracy, majority@k and measures with intervals; empty where there is none."""
    named = _named(result)
    ks = [k for k in sorted(result.overall.majority_at) if k > 1]
    measures = [name for name in MEASURES if name in result.overall.measures]
    sampled = result.overall.sampled_accuracy is not None and result.settings.decoding == "greedy"
    head = ["task", *(["sampled accuracy"] if sampled else []), *(f"majority@{k}" for k in ks), *measures]
    if len(head) == 1:
        return []
    rows = [head]
    for name, summary in named:
        cells = [with_interval(summary.sampled_accuracy)] if sampled and summary.sampled_accuracy else []
        cells += [percent(summary.majority_at[k].value) for k in ks]
        cells += [with_interval(summary.measures[m]) if m in summary.measures else "–" for m in measures]
        rows.append([name, *cells])
    return rows


def slice_rows(result: EvaluationResult, key: str) -> Rows:
    """Figures for each value of a key of metadata."""
    summaries = result.slices[key]
    measures = [name for name in MEASURES if any(name in summary.measures for summary in summaries.values())]
    rows = [[key, "samples", "accuracy", *measures]]
    for value, summary in summaries.items():
        cells = [percent(summary.measures[m].value) if m in summary.measures else "–" for m in measures]
        rows.append([value, str(summary.samples), with_interval(summary.accuracy), *cells])
    return rows


def benchmark_rows(result: EvaluationResult, name: str) -> Rows:
    """A benchmark's own figures."""
    return [[name, "score"], *([figure, with_interval(value)] for figure, value in result.benchmarks[name].items())]


def seed_rows(result: EvaluationResult) -> Rows:
    """Sampled accuracy seed by seed, with mean and standard deviation; empty with a single seed."""
    if result.overall.seed_deviation is None:
        return []
    seeds = len(result.overall.seed_accuracies)
    rows = [["task", *(f"seed {i}" for i in range(seeds)), "mean", "deviation"]]
    for name, summary in _named(result):
        values = summary.seed_accuracies
        deviation = summary.seed_deviation or 0.0
        rows.append([name, *map(percent, values), percent(sum(values) / seeds), f"{100 * deviation:.1f}"])
    return rows


def comparison_rows(before: EvaluationResult, after: EvaluationResult, comparison: Comparison) -> Rows:
    """Two models side by side: accuracies with intervals, their paired difference, its p-value and the flips."""
    largest = max(set(before.overall.pass_at) & set(after.overall.pass_at), default=None)
    head = ["task", "samples", "before", "after", "difference", "p", "won", "lost", "McNemar p"]
    rows = [head if largest is None else [*head, f"pass@{largest} before", f"pass@{largest} after"]]
    for name, paired in _compared(comparison):
        # A sample may be of one task before and of another after: the other side then has no figures of this one.
        sides = [{**result.tasks, ALL: result.overall}.get(name) for result in (before, after)]
        row = [
            name,
            str(paired.samples),
            *("–" if side is None else with_interval(side.accuracy) for side in sides),
            points(paired.difference),
            p_value(paired.p_value),
            str(len(paired.won)),
            str(len(paired.lost)),
            p_value(paired.mcnemar_p_value),
        ]
        if largest is not None:
            row += ["–" if side is None else percent(side.pass_at[largest].value) for side in sides]
        rows.append(row)
    return rows


def change_rows(comparison: Comparison) -> Rows:
    """What else changed from before to after, paired: length and every measure both have; empty where nothing is."""
    measures = [name for name in MEASURES if name in comparison.overall.measures]
    if not measures and comparison.overall.tokens is None:
        return []
    rows = [["task", "tokens", *measures]]
    for name, paired in _compared(comparison):
        tokens = paired.tokens
        cells = [f"{tokens.value:+.1f} [{tokens.low:+.1f}, {tokens.high:+.1f}]" if tokens else "–"]
        rows.append([name, *cells, *(points(paired.measures[m]) if m in paired.measures else "–" for m in measures)])
    return rows


def notes(result: EvaluationResult) -> list[str]:
    """What a reader of the figures must know: dropped samples with their reasons, rewards that failed."""
    summary = result.overall
    found = [
        f"{count} of {summary.samples} samples dropped ({reason}); they count as wrong."
        for reason, count in summary.drop_reasons.items()
    ]
    if summary.reward_failures:
        found.append(
            f"{summary.reward_failures} rewards failed or timed out; those completions earned nothing by them."
        )
    return found


def percent(value: float) -> str:
    """0.934 → "93.4 %"."""
    return f"{100 * value:.1f} %"


def with_interval(interval: Interval) -> str:
    """ "93.4 % [91.0, 95.6]"."""
    return f"{percent(interval.value)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def points(interval: Interval) -> str:
    """A difference in percentage points: "+51.2 [+46.0, +56.1]"."""
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def p_value(value: float) -> str:
    """Three decimals, and never a zero that it is not."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _named(result: EvaluationResult) -> Sequence[tuple[str, TaskSummary]]:
    """Tasks, then all together where there is more than one."""
    tasks = list(result.tasks.items())
    return tasks if len(tasks) == 1 else [*tasks, (ALL, result.overall)]


def _compared(comparison: Comparison) -> Sequence[tuple[str, TaskComparison]]:
    tasks = list(comparison.tasks.items())
    return tasks if len(tasks) == 1 else [*tasks, (ALL, comparison.overall)]
