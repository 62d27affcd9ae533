"""The tab Data: its controls and which handler each one calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from mmrl_apps.inspector.address import whole
from mmrl_apps.inspector.controls import choices_or_any, listed
from mmrl_apps.inspector.data_page import difficulty_names
from mmrl_apps.inspector.handlers import Handlers


class DataTab:
    def __init__(self, handlers: Handlers, run: gr.Dropdown, view: gr.Textbox) -> None:
        self._handlers = handlers
        with gr.Row():
            self.manifest = gr.Dropdown([], label="Manifest", scale=2, min_width=240, elem_id="manifest")
            self.task = gr.Dropdown(choices_or_any([]), value="", label="Task", min_width=140, elem_id="data-task")
            self.difficulty = gr.Dropdown(
                choices_or_any(difficulty_names()), value="", label="Difficulty", min_width=180, elem_id="difficulty"
            )
            self.text = gr.Textbox(
                label="Text", placeholder="in the question or the id", min_width=180, elem_id="data-text"
            )
        with gr.Row():
            before = gr.Button("← Page", size="sm", scale=0, min_width=90, elem_id="data-before")
            after = gr.Button("Page →", size="sm", scale=0, min_width=90, elem_id="data-after")
        self.count = gr.Markdown(elem_id="data-count")
        self.html = gr.HTML(elem_id="data")
        self.page = gr.State(0)
        self.asked = asked = [run, self.manifest, self.task, self.difficulty, self.text]
        shown = [self.html, self.count, self.page, view]
        self.manifest.input(self.other, [run, self.manifest], [self.task, *shown], show_progress="minimal")
        self.task.input(self.listed, asked, shown, show_progress="minimal")
        self.difficulty.input(self.listed, asked, shown, show_progress="minimal")
        self.text.submit(self.listed, asked, shown, show_progress="minimal")
        before.click(partial(self.turned, -1), [self.page, *asked], shown, show_progress="minimal")
        after.click(partial(self.turned, 1), [self.page, *asked], shown, show_progress="minimal")

    def other(self, run: str | None, manifest: str | None) -> tuple[Any, ...]:
        return gr.Dropdown(choices_or_any(self._handlers.data_tasks(run, manifest)), value=""), *self.listed(
            run, manifest, "", "", ""
        )

    def listed(self, *asked: Any) -> tuple[Any, ...]:
        return listed(self._handlers.data(*asked))

    def turned(self, by: int, page: int, *asked: Any) -> tuple[Any, ...]:
        run, manifest, task, difficulty, text = asked
        pages = self._handlers.data(run, manifest, task, difficulty, text).pages
        return listed(self._handlers.data(run, manifest, task, difficulty, text, min(max(0, page + by), pages - 1)))

    def restore(self, run: str | None, query: dict[str, str]) -> tuple[Any, ...]:
        manifests = self._handlers.manifests(run)
        mine = query if query["tab"] == "data" else {}
        named = [path for path in manifests if path.rpartition("/")[2] == mine.get("manifest")]
        chosen = next(iter([*named, *manifests]), None)
        tasks = self._handlers.data_tasks(run, chosen)
        task = mine.get("task", "") if mine.get("task") in tasks else ""
        difficulty = mine.get("difficulty", "") if mine.get("difficulty") in difficulty_names() else ""
        text = mine.get("text", "")
        page = max(0, (whole(mine.get("page")) or 1) - 1)
        if mine:
            shown = listed(self._handlers.data(run, chosen, task, difficulty, text, page))[:3]
        else:  # filled when the tab is opened
            shown = ("", "", 0)
        return (
            self.of(manifests, chosen),
            gr.Dropdown(choices_or_any(tasks), value=task),
            difficulty,
            text,
            *shown,
        )

    def of(self, manifests: list[str], chosen: str | None) -> gr.Dropdown:
        """The choice of manifests, by their file names."""
        return gr.Dropdown([(path.rpartition("/")[2], path) for path in manifests], value=chosen)
