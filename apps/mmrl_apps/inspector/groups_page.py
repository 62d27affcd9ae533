"""The list of groups: what the controls ask for, the rows that fit, and the selection as a manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.data.manifest import write_manifest
from mmrl.errors import RunError
from mmrl.traces.query import Find
from mmrl.traces.rows import GroupRow
from mmrl.types import Sample
from mmrl_apps.inspector.address import group_address, number
from mmrl_apps.inspector.group_page import oddities, right, shown
from mmrl_apps.shared.markup import fragment, message

if TYPE_CHECKING:
    from mmrl_apps.inspector.inspector import OpenRun

PAGE = 25  # rows of the list at a time
MOST_EXPORTED = 20_000  # samples of one manifest

# The controls, in their order on the page, and in addresses.
CONTROLS = (
    "first",
    "last",
    "task",
    "sample",
    "outcome",
    "odd",
    "sort",
    "text",
    "reward_from",
    "reward_to",
    "part",
    "part_from",
    "part_to",
    "pass_from",
    "pass_to",
    "tokens_from",
    "tokens_to",
)


def asked(values: Mapping[str, Any]) -> Find:
    """The search that the controls (or an address) describe. ConfigError where it makes no sense."""

    def text(name: str) -> str:
        return str(values.get(name) or "").strip()

    def bounds(low: str, high: str) -> tuple[float | None, float | None]:
        return number(values.get(low)), number(values.get(high))

    return Find(
        steps=bounds("first", "last"),
        task=text("task"),
        sample_id=text("sample"),
        outcome=text("outcome"),
        odd=text("odd"),
        sort=text("sort") or "newest",
        text=text("text"),
        reward=bounds("reward_from", "reward_to"),
        part=text("part"),
        part_range=bounds("part_from", "part_to"),
        pass_rate=bounds("pass_from", "pass_to"),
        tokens=bounds("tokens_from", "tokens_to"),
    )


def status_html(run: OpenRun, trouble: str = "") -> str:
    """One line: how much there is, and whether it is all indexed."""
    facets = run.index.facets()
    return fragment("status.html.j2", run=run, facets=facets, trouble=trouble)


def list_html(run: OpenRun, find: Find, *, page: int = 0) -> tuple[str, int]:
    """(the rows of a page of the list, how many groups fit)."""
    rows, count = run.index.find(find, limit=PAGE, skip=page * PAGE)
    if not rows:
        return message(_nothing(run, find)), count
    return fragment("groups.html.j2", rows=[_shown(run, row) for row in rows], find=find), count


def selection(run: OpenRun, find: Find) -> tuple[str, str]:
    """(file name, a manifest of the samples whose groups fit, each once, media paths absolute)."""
    rows, _ = run.index.find(find, limit=10 * MOST_EXPORTED)
    first: dict[str, GroupRow] = {}
    for row in rows:
        if row.size:
            first.setdefault(row.sample_id, row)
    if not first:
        raise RunError("No group fits, so there is no sample to write. Loosen the search.")
    if len(first) > MOST_EXPORTED:
        raise RunError(
            f"{len(first)} samples fit; a manifest from here holds at most {MOST_EXPORTED}. Narrow the search."
        )
    samples: list[Sample] = [run.index.group(row).sample for row in first.values()]
    return f"{run.name.replace('/', '-')}-{len(samples)}-samples.jsonl", manifest_text(samples)


def manifest_text(samples: list[Sample]) -> str:
    """What `write_manifest` writes for them. It checks that every one can be read back."""
    with tempfile.TemporaryDirectory(prefix="mmrl-manifest-") as folder:
        path = Path(folder) / "selection.jsonl"
        write_manifest(path, samples)
        return path.read_text(encoding="utf-8")


def _shown(run: OpenRun, row: GroupRow) -> dict[str, Any]:
    return {
        "row": row,
        "address": group_address(run.name, row.step, row.place) if row.size else "",
        "open": f"{row.step}:{row.place}",
        "total": shown(row.total),
        "spread": shown(row.spread),
        "right": right(row),
        "form": shown(row.form),
        "tokens": f"{row.tokens:.0f}" if row.size else "–",
        "odd": oddities(row),
        "outcome": f"{row.stage}: {row.reason}" if row.stage else "",
    }


def _nothing(run: OpenRun, find: Find) -> str:
    facets = run.index.facets()
    if facets.pending and not facets.groups:
        return f"{run.name}: its {facets.pending} steps are being indexed; the first groups appear in a moment."
    if not facets.groups:
        return (
            f"{run.name} has no traces yet. They appear here after its first training step; a run without a training "
            "stage (train.steps) writes none."
        )
    hint = " A text is looked for word for word in questions and completions." if find.text else ""
    return f"None of the {facets.groups:,} groups fits this search. Widen a range, or press Reset.{hint}"
