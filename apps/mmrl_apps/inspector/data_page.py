"""A manifest to leaf through: samples with their answers drawn, by task and difficulty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.data.samples import parse_sample
from mmrl.errors import ConfigError, DataError
from mmrl.report.completions import gold_text
from mmrl.types import Sample
from mmrl_apps.inspector.group_page import drawn_marks, options
from mmrl_apps.shared.marks import marked_item
from mmrl_apps.shared.markup import fragment, message
from mmrl_apps.shared.pictures import show_media

if TYPE_CHECKING:
    from mmrl_apps.inspector.inspector import Inspector, OpenRun

PAGE = 12  # samples at a time

# By the share of completions that were correct: in the run's traces, else as `mmrl data difficulty` measured it.
DIFFICULTIES: Mapping[str, tuple[float, float]] = {
    "never right": (0.0, 0.0),
    "hard, up to a quarter right": (1e-9, 0.25),
    "middling": (0.2500001, 0.7499999),
    "easy, three quarters or more": (0.75, 0.9999999),
    "always right": (1.0, 1.0),
}
UNKNOWN = "never asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a manifest, as far as it is looked for by."""

    offset: int
    length: int
    id: str
    task: str
    question: str
    rate: float | None  # measured pass rate in the manifest; None: there is none


def manifest_names(inspector: Inspector, run: OpenRun | None) -> list[str]:
    """The manifests that can be chosen."""
    return [str(path) for path in (run.manifests if run is not None else inspector.loose_manifests)]


def tasks(manifest: str, inspector: Inspector, run: OpenRun | None) -> list[str]:
    """The tasks of a manifest."""
    return list(dict.fromkeys(entry.task for entry in _entries(_chosen(manifest, inspector, run))))


def data_html(
    inspector: Inspector,
    run: OpenRun | None,
    manifest: str,
    *,
    task: str = "",
    difficulty: str = "",
    text: str = "",
    page: int = 0,
) -> tuple[str, int]:
    """(a page of samples, how many fit). ConfigError for a manifest that is not the run's."""
    path = _chosen(manifest, inspector, run)
    entries = _entries(path)
    if not entries:
        return message(f"{path.name} holds no sample. `mmrl data validate {path}` says what is wrong with it."), 0
    seen = run.index.pass_rates() if run is not None else {}
    wanted = text.strip().lower()
    fitting = []
    for entry in entries:
        asked, rate = seen.get(entry.id, (0, None))
        rate = entry.rate if rate is None else rate
        if task and entry.task != task:
            continue
        if wanted and wanted not in entry.question.lower() and wanted not in entry.id.lower():
            continue
        if difficulty and not _is(difficulty, rate):
            continue
        fitting.append((entry, asked, rate))
    if not fitting:
        more = (
            " Difficulty is known for samples that the run asked, or that `mmrl data difficulty` measured."
            if difficulty
            else ""
        )
        return message(
            f"None of the {len(entries):,} samples of {path.name} fits. Choose another task or difficulty.{more}"
        ), 0
    guard = run.guard if run is not None else inspector.loose_guard
    rewards = run.rewards() if run is not None else {}
    cards: list[dict[str, Any]] = []
    for entry, asked, rate in fitting[page * PAGE : (page + 1) * PAGE]:
        try:
            sample = _sample(path, entry)
        except DataError as error:
            cards.append({"id": entry.id, "broken": str(error)})
            continue
        media = show_media(sample.media, (), guard, play=False)
        cards.append(
            {
                "broken": "",
                "sample": sample,
                "media": media,
                "marks": drawn_marks(sample, media, None, item=marked_item(sample, rewards)),
                "options": options(sample),
                "gold": gold_text(sample.answer),
                "difficulty": _words(asked, rate),
                "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False) if sample.metadata else "",
            }
        )
    return fragment("data.html.j2", cards=cards), len(fitting)


def find_sample(run: OpenRun, id_: str) -> Sample | None:
    """A sample by its id, from whichever of the run's manifests has it."""
    for path in run.manifests:
        for entry in _entries(path):
            if entry.id == id_:
                return _sample(path, entry)
    return None


def _chosen(manifest: str, inspector: Inspector, run: OpenRun | None) -> Path:
    known = manifest_names(inspector, run)
    if manifest not in known:
        names = ", ".join(Path(name).name for name in known) or "none"
        raise ConfigError(f"{Path(manifest or '').name or 'nothing'} is no manifest of this run; it has: {names}.")
    return Path(manifest)


def _entries(path: Path) -> tuple[Entry, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _read(path: Path, size: int, changed: int) -> tuple[Entry, ...]:
    from orjson import loads

    found = []
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            try:
                row = loads(raw)
                metadata = row.get("metadata") or {}
                measured = metadata.get(
                    "pass_rate",
                    (metadata.get("difficulty") or {}).get("pass_rate")
                    if isinstance(metadata.get("difficulty"), dict)
                    else None,
                )
                found.append(
                    Entry(
                        offset=offset,
                        length=len(raw),
                        id=str(row["id"]),
                        task=str(row["task"]),
                        question=str(row["question"]),
                        rate=float(measured) if isinstance(measured, int | float) else None,
                    )
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                pass  # no sample: `mmrl data validate` says what is wrong
            offset += len(raw)
    return tuple(found)


def _sample(path: Path, entry: Entry) -> Sample:
    with path.open("rb") as file:
        file.seek(entry.offset)
        raw = file.read(entry.length)
    try:
        row = json.loads(raw)
    except ValueError as error:
        raise DataError(f"{path.name} has changed since it was read ({error}); choose it again.") from error
    return parse_sample(row, where=f"{path.name}, sample {entry.id}", root=path.parent)


def _is(difficulty: str, rate: float | None) -> bool:
    if difficulty == UNKNOWN:
        return rate is None
    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"unknown difficulty {difficulty!r}")
    low, high = DIFFICULTIES[difficulty]
    return rate is not None and low <= rate <= high


def _words(asked: int, rate: float | None) -> str:
    if rate is None:
        return UNKNOWN
    return f"{rate:.0%} of {asked} completions right" if asked else f"{rate:.0%} right, as measured"


def pages(count: int, size: int) -> int:
    """How many pages so many entries make; at least one."""
    return max(1, -(-count // size))


def difficulty_names() -> list[str]:
    """The choices of the control."""
    return [*DIFFICULTIES, UNKNOWN]
