"""All tables of an evaluation in the order in which they are read, as text for a terminal or as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmrl.evaluation.compare import Comparison, compare
from mmrl.evaluation.result import EvaluationResult
from mmrl.evaluation.table import (
    Rows,
    benchmark_rows,
    change_rows,
    comparison_rows,
    markdown_table,
    measure_rows,
    notes,
    result_rows,
    seed_rows,
    slice_rows,
    text_table,
)

_LISTED = 20  # flips that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table under its title, or lines of text."""

    title: str  # empty: none
    rows: Rows = ()  # type: ignore[assignment]
    lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What `mmrl eval` found: one model, or one before and after."""

    after: EvaluationResult
    before: EvaluationResult | None = None
    untrained: Mapping[str, tuple[EvaluationResult | None, EvaluationResult]] | None = None  # name → before, after

    @property
    def comparison(self) -> Comparison | None:
        return compare(self.before, self.after) if self.before is not None else None

    def forgotten(self) -> dict[str, Comparison]:
        """Per set of tasks that were not trained, before against after."""
        return {name: compare(a, b) for name, (a, b) in (self.untrained or {}).items() if a is not None}


def sections(told: Told) -> Iterator[Section]:
    """In order of reading."""
    comparison = told.comparison
    if told.before is None or comparison is None:
        yield from _one(told.after, "")
    else:
        yield Section(title="Before and after", rows=comparison_rows(told.before, told.after, comparison))
        yield Section(title="Changes", rows=change_rows(comparison))
        yield from _one(told.before, "before: ")
        yield from _one(told.after, "after: ")
        yield _flips(comparison)
    forgotten = told.forgotten()
    for name, (before, after) in (told.untrained or {}).items():
        if before is None:
            yield Section(title=f"Not trained: {name}", rows=result_rows(after))
        else:
            rows = comparison_rows(before, after, forgotten[name])
            yield Section(title=f"Not trained, before and after: {name}", rows=rows)
            yield Section(title="", rows=change_rows(forgotten[name]))
    results = [told.before, told.after, *(r for pair in (told.untrained or {}).values() for r in pair)]
    said = dict.fromkeys(note for result in results if result is not None for note in notes(result))
    yield Section(title="", lines=tuple(said))


def as_text(told: Told) -> str:
    """For a terminal."""
    return "\n\n".join(_text(section) for section in sections(told) if section.rows or section.lines)


def as_markdown(told: Told, *, title: str = "Evaluation") -> str:
    """A page: what was evaluated and how, then the tables."""
    parts = [f"# {title}", *(f"## {heading}\n\n{_facts(result)}" for heading, result in _sides(told))]
    for section in sections(told):
        if section.rows or section.lines:
            parts.append(_markdown(section))
    return "\n\n".join(parts) + "\n"


def _one(result: EvaluationResult, whose: str) -> Iterator[Section]:
    yield Section(title=f"{whose}accuracy" if whose else "", rows=result_rows(result))
    yield Section(title=f"{whose}measures" if whose else "", rows=measure_rows(result))
    yield Section(title=f"{whose}seeds" if whose else "", rows=seed_rows(result))
    for name in result.benchmarks:
        yield Section(title=f"{whose}{name}" if whose else "", rows=benchmark_rows(result, name))
    for key in result.slices:
        yield Section(title=f"{whose}{key}" if whose else "", rows=slice_rows(result, key))


def _flips(comparison: Comparison) -> Section:
    lines = []
    for what, ids in (("won", comparison.overall.won), ("lost", comparison.overall.lost)):
        if ids:
            more = f" … and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
            lines.append(f"{what}: {', '.join(ids[:_LISTED])}{more}")
    return Section(title="Flips", lines=tuple(lines))


def _sides(told: Told) -> list[tuple[str, EvaluationResult]]:
    if told.before is None:
        return [("What was evaluated", told.after)]
    return [("Before", told.before), ("After", told.after)]


def _facts(result: EvaluationResult) -> str:
    settings = result.settings
    drawn = f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, top-k {settings.top_k or 'off'}"
    how = {
        "answers": settings.decoding,
        "sampled": f"{settings.samples_per_prompt} × {settings.seeds} seeds, {drawn}" if settings.completions else "no",
        "longest": f"{settings.max_tokens} tokens",
        "intervals": f"{100 * settings.confidence:g} %, bootstrap of {settings.resamples} resamples over samples",
    }
    if "predictions" in result.facts:  # how they were drawn is not known
        how = {"intervals": how["intervals"]}
    return "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in {**result.facts, **how}.items())


def _text(section: Section) -> str:
    body = text_table(section.rows) if section.rows else "\n".join(section.lines)
    return f"{section.title}\n{body}" if section.title else body


def _markdown(section: Section) -> str:
    body = markdown_table(section.rows) if section.rows else "\n".join(f"- {line}" for line in section.lines)
    return f"## {section.title}\n\n{body}" if section.title else body
