"""The tab Compare: its controls and which handler each one calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from mmrl_apps.inspector.address import address, whole
from mmrl_apps.inspector.compare_page import OUTCOMES
from mmrl_apps.inspector.controls import OPENING, choices_or_any, listed
from mmrl_apps.inspector.handlers import Handlers


class CompareTab:
    def __init__(self, handlers: Handlers, view: gr.Textbox) -> None:
        self._handlers = handlers
        with gr.Row():
            self.a = gr.Dropdown([], label="A", min_width=220, elem_id="side-a")
            self.b = gr.Dropdown([], label="B", min_width=220, elem_id="side-b")
            self.outcome = gr.Dropdown(
                list(OUTCOMES), value="flips", label="Show", min_width=130, elem_id="compare-outcome"
            )
            self.task = gr.Dropdown(choices_or_any([]), value="", label="Task", min_width=130, elem_id="compare-task")
        with gr.Row():
            before = gr.Button("← Page", size="sm", scale=0, min_width=90, elem_id="compare-before")
            after = gr.Button("Page →", size="sm", scale=0, min_width=90, elem_id="compare-after")
        self.count = gr.Markdown(elem_id="compare-count")
        self.html = gr.HTML(js_on_load=OPENING, elem_id="compare")
        self.pair = gr.HTML(elem_id="pair")
        self.page = gr.State(0)
        self.id = gr.State("")  # of the sample that is open
        self.asked = asked = [self.a, self.b, self.outcome, self.task]
        shown = [self.task, self.html, self.count, self.page, self.pair, self.id, view]
        for control in (self.a, self.b, self.outcome, self.task):
            control.input(partial(self.listed, 0), asked, shown, show_progress="minimal")
        before.click(partial(self.turned, -1), [self.page, *asked], shown, show_progress="minimal")
        after.click(partial(self.turned, 1), [self.page, *asked], shown, show_progress="minimal")
        self.html.submit(self.opened, asked, [self.pair, self.id, view], show_progress="minimal")

    def listed(self, page: int, a: str | None, b: str | None, outcome: str, task: str) -> tuple[Any, ...]:
        found, tasks = self._handlers.compare(a, b, outcome, task, page)
        html, count, at, link = listed(found)
        kept = task if task in tasks else ""
        return gr.Dropdown(choices_or_any(tasks), value=kept), html, count, at, self._handlers.pair(a, b, ""), "", link

    def turned(self, by: int, page: int, *asked: Any) -> tuple[Any, ...]:
        pages = self._handlers.compare(*asked)[0].pages
        return self.listed(min(max(0, page + by), pages - 1), *asked)

    def opened(
        self, a: str | None, b: str | None, outcome: str, task: str, event: gr.EventData
    ) -> tuple[str, str, str]:
        id_ = str(event._data.get("open", "")) if isinstance(event._data, dict) else ""
        return self._handlers.pair(a, b, id_), id_, self._link(a, b, outcome, task, id_)

    def refreshed(self, page: int, id_: str, a: str | None, b: str | None, outcome: str, task: str) -> tuple[Any, ...]:
        """The list as it stands now; the sample that is open stays."""
        link = self._link(a, b, outcome, task, id_)
        return *self.listed(page, a, b, outcome, task)[:4], self._handlers.pair(a, b, id_), link

    def _link(self, a: str | None, b: str | None, outcome: str, task: str, id_: str) -> str:
        return address("compare", {"a": a or "", "b": b or "", "outcome": outcome, "task": task, "id": id_})

    def restore(self, query: dict[str, str]) -> tuple[Any, ...]:
        known = self._handlers.sides()
        usual = self._handlers.usual_sides()
        mine = query if query["tab"] == "compare" else {}
        a = mine.get("a") if mine.get("a") in known else usual[0]
        b = mine.get("b") if mine.get("b") in known else usual[1]
        outcome = mine.get("outcome", "flips")
        outcome = outcome if outcome in OUTCOMES else "flips"
        if not mine:  # filled when the tab is opened
            return gr.Dropdown(known, value=a), gr.Dropdown(known, value=b), outcome, "", "", "", 0, "", ""
        page = max(0, (whole(mine.get("page")) or 1) - 1)
        task, html, count, at, *_ = self.listed(page, a, b, outcome, mine.get("task", ""))
        pair = self._handlers.pair(a, b, mine.get("id", ""))
        return (
            gr.Dropdown(known, value=a),
            gr.Dropdown(known, value=b),
            outcome,
            task,
            html,
            count,
            at,
            pair,
            mine.get("id", ""),
        )
