"""What every control does: functions from values to values. None of them knows Gradio.

Each returns plain texts and numbers. What its user can mend (a search that makes no sense, a damaged trace, a reward
set that is no YAML) comes back as a message in place of the view, never as an exception.
"""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from mmrl.errors import MmrlError
from mmrl_apps.inspector import compare_page, data_page, group_page, groups_page, rescore, runs_page
from mmrl_apps.inspector.address import address, group_address, parse, whole
from mmrl_apps.inspector.inspector import Inspector
from mmrl_apps.shared.markup import message

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

P = ParamSpec("P")
_NEIGHBOURS = 50_000  # groups of a list in which the next group is looked for


def _said(work: Callable[Concatenate[Handlers, P], str]) -> Callable[Concatenate[Handlers, P], str]:
    """HTML, or the reason why there is none."""

    @functools.wraps(work)
    def told(self: Handlers, /, *args: P.args, **kwargs: P.kwargs) -> str:
        try:
            return work(self, *args, **kwargs)
        except Exception as error:
            return trouble(error)

    return told


def trouble(error: Exception) -> str:
    """What the page shows instead."""
    if isinstance(error, MmrlError):
        return message(str(error), kind="trouble")
    traceback.print_exception(error)
    return message(
        f"This could not be shown, by a defect of mmrl ({type(error).__name__}: {error}). The console has the rest.",
        kind="trouble",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A page of a list."""

    html: str
    page: int  # from 0
    pages: int
    count: int
    address: str

    @property
    def where(self) -> str:
        return f"{self.count:,} found · page {self.page + 1} of {self.pages}"


class Handlers:
    """Bound to the runs that are open."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    # ── all tabs ──

    def run_names(self) -> list[str]:
        return self._inspector.names

    @_said
    def status(self, run: str | None) -> str:
        if run is None:
            return message("No run is open; the manifests that were given are in the tab Data.")
        return groups_page.status_html(self._inspector.run(run), self._inspector.trouble.get(run, ""))

    def restored(self, query: Mapping[str, str]) -> dict[str, str]:
        """What an address asks for; the run and the tab are always there where there is one."""
        found = parse(query)
        names = self._inspector.names
        if found.get("run") not in names:
            found["run"] = names[0] if names else ""
        found.setdefault("tab", "groups" if names else "data")
        return found

    # ── Runs ──

    def metric_names(self, runs: Sequence[str]) -> list[str]:
        return runs_page.metric_names(self._inspector.runs(runs))

    def usual_metrics(self, runs: Sequence[str]) -> list[str]:
        known = self.metric_names(runs)
        return [name for name in runs_page.FIRST_SHOWN if name in known] or known[:4]

    def curves(
        self, runs: Sequence[str], metrics: Sequence[str], smoothing: float, axis: str
    ) -> tuple[Figure | None, str, str]:
        """(chart, what to say where there is none, address)."""
        open_runs = self._inspector.runs(runs)
        where = address(
            "runs",
            {
                "runs": list(runs),
                "metrics": list(metrics),
                "smoothing": smoothing or "",
                "axis": axis if axis != "step" else "",
            },
        )
        try:
            chart = runs_page.figure(open_runs, metrics, smoothing=smoothing, axis=axis)
        except Exception as error:
            return None, trouble(error), where
        if chart is not None:
            return chart, "", where
        if not open_runs:
            return None, message("Choose a run above."), where
        broken = [why for run in open_runs if (why := runs_page.damage(run))]
        if broken:
            return None, message("\n".join(broken), kind="trouble"), where
        if not self.metric_names(runs):
            return (
                None,
                message(
                    "These runs have logged nothing yet (metrics.jsonl); curves begin with the first training step."
                ),
                where,
            )
        return None, message("Choose a metric above."), where

    @_said
    def readings(self, metrics: Sequence[str]) -> str:
        return runs_page.readings_html(metrics)

    @_said
    def warnings(self, runs: Sequence[str]) -> str:
        return runs_page.warnings_html(self._inspector.runs(runs))

    @_said
    def differences(self, runs: Sequence[str]) -> str:
        return runs_page.differences_html(self._inspector.runs(runs))

    # ── Groups ──

    def choices(self, run: str | None) -> tuple[list[str], list[str], list[str]]:
        """Tasks, drop reasons and rewards of a run."""
        if run not in self._inspector.names:
            return [], [], []
        facets = self._inspector.run(run).index.facets()
        return list(facets.tasks), list(facets.reasons), list(facets.parts)

    def groups(self, run: str | None, values: Mapping[str, Any], page: int = 0) -> Listed:
        """The list, at a page; a page beyond the end is the last one."""
        where = address("groups", {"run": run or "", **values, "page": page + 1 if page else ""})
        try:
            opened = self._inspector.run(run)
            find = groups_page.asked(values)
            html, count = groups_page.list_html(opened, find, page=max(0, page))
            pages = data_page.pages(count, groups_page.PAGE)
            if page >= pages:
                page = pages - 1
                html, count = groups_page.list_html(opened, find, page=page)
        except Exception as error:
            return Listed(html=trouble(error), page=0, pages=1, count=0, address=where)
        return Listed(html=html, page=max(0, page), pages=pages, count=count, address=where)

    def selection(self, run: str | None, values: Mapping[str, Any]) -> tuple[str, str]:
        """(a file as JSON {name, kind, text}, "") or ("", why there is none)."""
        return self._file(
            "application/jsonl", lambda: groups_page.selection(self._inspector.run(run), groups_page.asked(values))
        )

    # ── One group ──

    def group_link(self, run: str | None, where: tuple[int, int] | None, colour: str = "") -> str:
        """The address of one group."""
        if where is None:
            return address("group", {"run": run or ""})
        return group_address(str(run), *where) + (f"&colour={colour.replace(' ', '+')}" if colour else "")

    def group(self, run: str | None, where: tuple[int, int] | None, colour: str = "") -> tuple[str, str]:
        """(HTML, address)."""
        if where is None:
            return message(group_page.NO_GROUP), self.group_link(run, where)
        at = self.group_link(run, where, colour)
        try:
            return self._inspector.group_page(str(run), *where, colour=colour), at
        except Exception as error:
            return trouble(error), at

    def neighbour(
        self, run: str | None, where: tuple[int, int] | None, values: Mapping[str, Any], direction: int
    ) -> tuple[int, int] | None:
        """The group before (−1) or after (+1) in the list; from none, the list's first. None at its ends."""
        try:
            places = self._inspector.run(run).index.places(groups_page.asked(values), limit=_NEIGHBOURS)
        except MmrlError:
            return where
        if where not in places:
            return places[0] if places else None
        position = places.index(where) + direction
        return places[position] if 0 <= position < len(places) else where

    def reward_set(self, run: str | None, where: tuple[int, int] | None) -> str:
        """The rewards that a group was scored by, as YAML; empty where there is no group."""
        try:
            if where is None:
                return ""
            opened = self._inspector.run(run)
            row = opened.index.at(*where)
            return rescore.own_set(opened, row) if row is not None and row.size else ""
        except MmrlError:
            return ""

    @_said
    def rescored(self, run: str | None, where: tuple[int, int] | None, rewards: str) -> str:
        if where is None:
            return message(group_page.NO_GROUP)
        return rescore.rescored_html(self._inspector.run(run), *where, rewards)

    def group_file(self, run: str | None, where: tuple[int, int] | None, colour: str = "") -> tuple[str, str]:
        """(the group as a file, "") or ("", why there is none)."""
        if where is None:
            return "", message(group_page.NO_GROUP)
        return self._file("text/html", lambda: group_page.group_file(self._inspector.run(run), *where, colour=colour))

    # ── Data ──

    def manifests(self, run: str | None) -> list[str]:
        opened = self._inspector.run(run) if run in self._inspector.names else None
        return data_page.manifest_names(self._inspector, opened)

    def data_tasks(self, run: str | None, manifest: str | None) -> list[str]:
        try:
            opened = self._inspector.run(run) if run in self._inspector.names else None
            return data_page.tasks(manifest or "", self._inspector, opened)
        except MmrlError:
            return []

    def data(
        self, run: str | None, manifest: str | None, task: str = "", difficulty: str = "", text: str = "", page: int = 0
    ) -> Listed:
        where = address(
            "data",
            {
                "run": run or "",
                "manifest": (manifest or "").rpartition("/")[2],
                "task": task,
                "difficulty": difficulty,
                "text": text,
                "page": page + 1 if page else "",
            },
        )
        try:
            opened = self._inspector.run(run) if run in self._inspector.names else None
            if not manifest:
                raise MmrlError(
                    "No manifest of this run is found. config.yaml names them under data; where a folder was moved, "
                    "give the manifest on the command line, mmrl app inspect RUN train.jsonl."
                )
            html, count = data_page.data_html(
                self._inspector, opened, manifest, task=task, difficulty=difficulty, text=text, page=max(0, page)
            )
        except Exception as error:
            return Listed(html=trouble(error), page=0, pages=1, count=0, address=where)
        return Listed(
            html=html, page=max(0, page), pages=data_page.pages(count, data_page.PAGE), count=count, address=where
        )

    # ── Compare ──

    def sides(self) -> list[str]:
        return compare_page.sides(self._inspector)

    def usual_sides(self) -> tuple[str | None, str | None]:
        return compare_page.usual_sides(self._inspector)

    def compare(
        self, a: str | None, b: str | None, outcome: str = "flips", task: str = "", page: int = 0
    ) -> tuple[Listed, list[str]]:
        """(the list, tasks that both sides have)."""
        where = address(
            "compare", {"a": a or "", "b": b or "", "outcome": outcome, "task": task, "page": page + 1 if page else ""}
        )
        try:
            html, count, tasks = compare_page.compare_html(
                self._inspector, a, b, outcome=outcome, task=task, page=max(0, page)
            )
        except Exception as error:
            return Listed(html=trouble(error), page=0, pages=1, count=0, address=where), []
        return Listed(
            html=html, page=max(0, page), pages=data_page.pages(count, compare_page.PAGE), count=count, address=where
        ), tasks

    @_said
    def pair(self, a: str | None, b: str | None, id_: str) -> str:
        if not id_:
            return message("Choose a sample of the list to see what both said.")
        return compare_page.pair_html(self._inspector, a, b, id_)

    # ── files ──

    def _file(self, kind: str, make: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        try:
            name, text = make()
        except Exception as error:
            return "", trouble(error)
        return json.dumps({"name": name, "kind": kind, "text": text}), ""


def opened(data: object) -> tuple[int, int] | None:
    """ "3:1200", as a row of a list says it, → step and place."""
    step, _, place = str(data or "").partition(":")
    first, second = whole(step), whole(place)
    return None if first is None or second is None else (first, second)
