"""The tab Group: its controls and which handler each one calls."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from mmrl_apps.inspector.address import whole
from mmrl_apps.inspector.controls import OPENING
from mmrl_apps.inspector.group_page import NO_GROUP
from mmrl_apps.inspector.groups_page import CONTROLS
from mmrl_apps.inspector.groups_tab import GroupsTab
from mmrl_apps.inspector.handlers import Handlers
from mmrl_apps.inspector.tokens import COLOURS
from mmrl_apps.shared.markup import message


class GroupTab:
    def __init__(
        self,
        handlers: Handlers,
        run: gr.Dropdown,
        where: gr.State,
        groups: GroupsTab,
        view: gr.Textbox,
        file: gr.Textbox,
    ) -> None:
        self._handlers = handlers
        with gr.Row(equal_height=True):
            before = gr.Button("← Group of the list", size="sm", scale=0, min_width=150, elem_id="group-before")
            after = gr.Button("Next group →", size="sm", scale=0, min_width=150, elem_id="group-after")
            export = gr.Button("This group as an HTML file", size="sm", scale=0, min_width=200, elem_id="export-group")
        self.colour = gr.Radio(
            [("plain", ""), *((name, name) for name in COLOURS if name)],
            value="",
            label="Colour the tokens by",
            elem_id="colour",
        )
        self.note = gr.HTML(elem_classes="mm-note")
        self.html = gr.HTML(message(NO_GROUP), js_on_load=OPENING, elem_id="group")
        with gr.Accordion("Score again with other rewards", open=False, elem_id="score-again"):
            self.rewards = gr.Code(
                language="yaml",
                label="Rewards, as in a config: change weights, options or names",
                lines=4,
                elem_id="rewards",
            )
            with gr.Row():
                score = gr.Button("Score again", variant="primary", size="sm", elem_id="rescore")
                own = gr.Button("The run's own rewards", size="sm", elem_id="own-rewards")
            self.rescored = gr.HTML(elem_id="rescored")
        shown = [where, self.html, self.rewards, self.rescored, view]
        for button, direction in ((before, -1), (after, 1)):
            button.click(
                partial(self.stepped, direction),
                [run, where, self.colour, *groups.controls],
                shown,
                show_progress="minimal",
            )
        self.colour.input(handlers.group, [run, where, self.colour], [self.html, view], show_progress="minimal")
        score.click(handlers.rescored, [run, where, self.rewards], self.rescored)
        own.click(handlers.reward_set, [run, where], self.rewards)
        export.click(handlers.group_file, [run, where, self.colour], [file, self.note])

    def stepped(self, direction: int, run: str | None, where: Any, colour: str, *values: Any) -> tuple[Any, ...]:
        at = None if where is None else (int(where[0]), int(where[1]))
        at = self._handlers.neighbour(run, at, dict(zip(CONTROLS, values, strict=True)), direction)
        html, link = self._handlers.group(run, at, colour)
        return at, html, self._handlers.reward_set(run, at), "", link

    def restore(self, run: str | None, query: dict[str, str]) -> tuple[Any, ...]:
        step, place = whole(query.get("step")), whole(query.get("place"))
        at = None if step is None or place is None else (step, place)
        colour = query.get("colour", "")
        colour = colour if colour in COLOURS else ""
        return at, colour, self._handlers.group(run, at, colour)[0], self._handlers.reward_set(run, at)
