"""A look at a manifest nobody has seen before: which fields its rows have, and everything about one of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

from mmrl.curation.consistency import answer_defects
from mmrl.curation.media_facts import MediaFacts, Request, examine
from mmrl.curation.media_index import wanted_of
from mmrl.curation.preview import answer_text, figures_of
from mmrl.curation.shards import Row, raw_lines, read_lines, read_rows, shards_of
from mmrl.curation.visual_tokens import FAMILIES, clip_families, clip_tokens, picture_tokens, sampled_frames
from mmrl.curation.workers import Failed, run_killable
from mmrl.data.fields import json_type
from mmrl.errors import DataError, nearest

LOOKED_AT = 1000  # rows whose fields are counted
_EXAMPLE = 60  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSeen:
    """One field of the rows, such as `answer.value` or `media[].path`."""

    name: str
    rows: int  # that have it
    kinds: Mapping[str, int]  # "text", "a number", … → how often
    examples: tuple[str, ...]  # the first different values


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One row in full."""

    file: Path
    line: int
    raw: str
    defects: tuple[str, ...]  # of the schema
    fields: tuple[tuple[str, str], ...]  # what there is to know, in order
    media: tuple[MediaFacts, ...]
    figure: str  # HTML of the media


def fields_seen(path: str | os.PathLike[str], *, limit: int = LOOKED_AT) -> tuple[list[FieldSeen], int]:
    """(fields of the first `limit` rows, rows looked at), by name, as they stand in the file."""
    rows: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = {}
    examples: dict[str, list[str]] = {}
    looked = 0
    for row in islice((row for shard in shards_of(path) for row in read_rows(shard)), limit):
        looked += 1
        found: set[str] = set()
        for name, value in _walk("", row.fields):
            found.add(name)
            kinds.setdefault(name, Counter())[json_type(value)] += 1
            told = json.dumps(value, ensure_ascii=False)
            told = told if len(told) <= _EXAMPLE else told[: _EXAMPLE - 1] + "…"
            seen = examples.setdefault(name, [])
            if len(seen) < 3 and told not in seen:
                seen.append(told)
        rows.update(found)
    if looked == 0:
        raise DataError(f"{path} holds no row, so there is nothing to look at")
    return [
        FieldSeen(name=name, rows=rows[name], kinds=dict(kinds[name].most_common()), examples=tuple(examples[name]))
        for name in sorted(rows)
    ], looked


def inspect_row(path: str | os.PathLike[str], *, id_: str = "", line: int | None = None) -> Inspection:
    """The row with this id or in this line (default: the first), its media looked into."""
    row, number = _find(path, id_, line)
    sample = row.sample
    told: list[tuple[str, str]] = []
    media: list[MediaFacts] = []
    figure = ""
    if sample is not None:
        told = [("id", sample.id), ("task", sample.task), ("question", sample.question)]
        right = sample.answer.value if sample.answer.type in ("choice", "choices") else ""
        told += [
            (f"option {letter}", text + ("  ← right" if letter in right else ""))
            for letter, text in zip(sample.letters, sample.choices, strict=True)
        ]
        told.append((f"answer ({sample.answer.type})", answer_text(sample.answer)))
        told += [(f"metadata.{key}", json.dumps(value, ensure_ascii=False)) for key, value in sample.metadata.items()]
        requests = [Request(path=p, kind=k, depth="decode") for p, k in wanted_of(sample.media)]  # type: ignore[arg-type]
        for request, found in zip(requests, run_killable(examine, requests, workers=1, seconds=60), strict=True):
            if isinstance(found, Failed):
                found = MediaFacts(path=request.path, kind=request.kind, reason=found.reason, message=found.detail)
            media.append(found)
            told.append((found.kind, _media_told(found)))
        told += [("does not fit", text) for _, text in answer_defects(sample, {fact.path: fact for fact in media})]
        figure = next(iter(figures_of([sample])))
    return Inspection(
        file=Path(path),
        line=number,
        raw=row.raw.decode("utf-8", "replace"),
        defects=tuple(row.defects),
        fields=tuple(told),
        media=tuple(media),
        figure=figure,
    )


def inspection_page(found: Inspection, seen: list[FieldSeen], looked: int) -> bytes:
    """One page: the row with its media, its raw line, and the fields of the manifest."""
    told = "".join(f"<tr><th>{escape(name)}</th><td><pre>{escape(text)}</pre></td></tr>" for name, text in found.fields)
    defects = "".join(f'<li class="broken">{escape(text)}</li>' for text in found.defects)
    rows = "".join(
        f"<tr><td>{escape(one.name)}</td><td>{one.rows}</td><td>{escape(', '.join(one.kinds))}</td>"
        f"<td>{escape(', '.join(one.examples))}</td></tr>"
        for one in seen
    )
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(f"{found.file}:{found.line}")}'
        "</title><style>body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem}pre{white-space:"
        "pre-wrap;margin:0}th,td{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0}"
        ".broken{color:#a40000}"
        f"img{{max-width:20rem}}</style></head><body><h1>{escape(f'{found.file}:{found.line}')}</h1>\n<ul>{defects}</ul>"
        f"{found.figure}<table>{told}</table><h2>The line</h2><pre>{escape(found.raw)}</pre>\n"
        f"<h2>Fields of the first {looked} rows</h2><table><tr><th>field</th><th>rows</th><th>kind</th>"
        f"<th>examples</th></tr>{rows}</table></body></html>\n"
    )
    return page.encode("utf-8")


def _walk(name: str, value: Any) -> list[tuple[str, Any]]:
    """(dotted name, value) of everything inside; items of a list share a name."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _walk(f"{name}.{key}" if name else key, inner)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [pair for inner in value for pair in _walk(f"{name}[]", inner)]
    return [(name or "(the line)", value)]


def _find(path: str | os.PathLike[str], id_: str, line: int | None) -> tuple[Row, int]:
    before = 0
    near: list[str] = []
    for shard in shards_of(path):
        lines = raw_lines(shard)
        for row in read_lines(shard, lines):
            if (
                (not id_ and line is None)
                or (id_ and row.id == id_)
                or (line is not None and before + row.line == line)
            ):
                return row, before + row.line
            if id_ and row.id and len(near) < 20_000:
                near.append(row.id)
        before += len(lines)
    guess = nearest(id_, near) if id_ else None
    what = f"no row has the id {id_!r}" if id_ else f"line {line} holds no row; there are {before} lines"
    raise DataError(f"{path}: {what}.{f' Did you mean {guess!r}?' if guess else ''}")


def _media_told(fact: MediaFacts) -> str:
    if fact.reason:
        return f"{fact.path}: {fact.reason}: {fact.message}"
    size = f"{fact.width}×{fact.height} pixels"
    if fact.kind == "video":
        shown = sampled_frames(fact.seconds, fact.frames / fact.seconds, None, None)
        size += f", {fact.seconds:.2f} s, {fact.frames} frames, {shown} shown at 2 per second"
        tokens = {name: clip_tokens(fact.width, fact.height, shown, rule) for name, rule in clip_families().items()}
    else:
        tokens = {name: picture_tokens(fact.width, fact.height, rule) for name, rule in FAMILIES.items()}
    told = ", ".join(f"{name} {count}" for name, count in tokens.items())
    return f"{fact.path}: {size}; visual tokens: {told}"
