"""The tab Groups: its controls and which handler each one calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import gradio as gr

from mmrl.traces.query import DROPPED, ODD, SORTS, TRAINED
from mmrl_apps.inspector.address import number, whole
from mmrl_apps.inspector.controls import OPENING, choices_or_any, listed
from mmrl_apps.inspector.groups_page import CONTROLS
from mmrl_apps.inspector.handlers import Handlers


class GroupsTab:
    def __init__(self, handlers: Handlers, run: gr.Dropdown, view: gr.Textbox, file: gr.Textbox) -> None:
        self._handlers = handlers
        tasks, reasons, parts = handlers.choices(run.value)
        with gr.Row():
            self.text = gr.Textbox(
                label="Text", placeholder="in a question or a completion", min_width=200, elem_id="text"
            )
            self.odd = gr.Dropdown(
                choices_or_any(list(ODD)), value="", label="What is odd", min_width=260, elem_id="odd"
            )
            self.sort = gr.Dropdown(list(SORTS), value="newest", label="Sort by", min_width=260, elem_id="sort")
            self.task = gr.Dropdown(choices_or_any(tasks), value="", label="Task", min_width=140, elem_id="task")
        with gr.Accordion("More to find by: step, sample, reward, pass rate, length, what was left out", open=False):
            with gr.Row():
                self.first = _bound("Step from", "first", precision=0)
                self.last = _bound("to", "last", precision=0)
                self.sample = gr.Textbox(label="Sample id", min_width=160, elem_id="sample")
                self.outcome = gr.Dropdown(
                    _outcomes(reasons), value="", label="Trained on or left out", min_width=180, elem_id="outcome"
                )
            with gr.Row():
                self.reward_from, self.reward_to = _bound("Mean reward from", "reward-from"), _bound("to", "reward-to")
                self.part = gr.Dropdown(
                    choices_or_any(parts), value="", label="Reward part", min_width=150, elem_id="part"
                )
                self.part_from, self.part_to = _bound("its mean from", "part-from"), _bound("to", "part-to")
            with gr.Row():
                self.pass_from, self.pass_to = _bound("Pass rate from", "pass-from"), _bound("to", "pass-to")
                self.tokens_from, self.tokens_to = _bound("Mean length from", "tokens-from"), _bound("to", "tokens-to")
        with gr.Row():
            search = gr.Button("Find", variant="primary", size="sm", scale=0, min_width=90, elem_id="find")
            reset = gr.Button("Reset", size="sm", scale=0, min_width=90, elem_id="reset")
            before = gr.Button("← Page", size="sm", scale=0, min_width=90, elem_id="page-before")
            after = gr.Button("Page →", size="sm", scale=0, min_width=90, elem_id="page-after")
            export = gr.Button(
                "Samples of these groups as a manifest", size="sm", scale=0, min_width=260, elem_id="export-manifest"
            )
        self.count = gr.Markdown(elem_id="count")
        self.note = gr.HTML(elem_classes="mm-note")
        self.html = gr.HTML(js_on_load=OPENING, elem_id="groups")
        self.page = gr.State(0)
        self.controls = [getattr(self, name) for name in CONTROLS]
        shown = [self.html, self.count, self.page, view]
        go = partial(self.listed, 0)
        for control in (self.odd, self.sort, self.task, self.outcome, self.part):
            control.input(go, [run, *self.controls], shown, show_progress="minimal")
        bounds = [control for control in self.controls if isinstance(control, gr.Number)]
        boxes: list[gr.Textbox | gr.Number] = [self.text, self.sample, *bounds]
        for box in boxes:
            box.submit(go, [run, *self.controls], shown, show_progress="minimal")
        search.click(go, [run, *self.controls], shown, show_progress="minimal")
        before.click(partial(self.turned, -1), [self.page, run, *self.controls], shown, show_progress="minimal")
        after.click(partial(self.turned, 1), [self.page, run, *self.controls], shown, show_progress="minimal")
        reset.click(self.reset, [run], [*self.controls, *shown], show_progress="minimal")
        export.click(self.exported, [run, *self.controls], [file, self.note])

    def listed(self, page: int, run: str | None, *values: Any) -> tuple[Any, ...]:
        return listed(self._handlers.groups(run, dict(zip(CONTROLS, values, strict=True)), page))

    def turned(self, by: int, page: int, run: str | None, *values: Any) -> tuple[Any, ...]:
        return self.listed(max(0, page + by), run, *values)

    def reset(self, run: str | None) -> tuple[Any, ...]:
        return *self.fresh(self._handlers.choices(run)), *listed(self._handlers.groups(run, {}))

    def exported(self, run: str | None, *values: Any) -> tuple[str, str]:
        return self._handlers.selection(run, dict(zip(CONTROLS, values, strict=True)))

    def fresh(
        self, choices: tuple[list[str], list[str], list[str]], values: Mapping[str, str] = MappingProxyType({})
    ) -> list[Any]:
        """The controls with a run's choices (tasks, drop reasons, rewards) and these values."""
        tasks, reasons, parts = choices
        known_choices: dict[str, list[tuple[str, str]]] = {
            "task": choices_or_any(tasks),
            "outcome": _outcomes(reasons),
            "part": choices_or_any(parts),
            "odd": choices_or_any(list(ODD)),
            "sort": [(name, name) for name in SORTS],
        }
        out: list[Any] = []
        for name, control in zip(CONTROLS, self.controls, strict=True):
            value = values.get(name, "newest" if name == "sort" else "")
            if name in known_choices:
                known = [value_ for _, value_ in known_choices[name]]
                usual = "newest" if name == "sort" else ""
                out.append(gr.Dropdown(known_choices[name], value=value if value in known else usual))
            else:
                out.append(number(value) if isinstance(control, gr.Number) else str(value or ""))
        return out

    def restore(self, run: str | None, query: dict[str, str]) -> tuple[Any, ...]:
        mine = query if query["tab"] in ("groups", "group") else {}
        values = {name: mine[name] for name in CONTROLS if name in mine}
        found = self._handlers.groups(run, values, max(0, (whole(mine.get("page")) or 1) - 1))
        return *self.fresh(self._handlers.choices(run), values), *listed(found)[:3]


def _bound(label: str, id_: str, *, precision: int | None = None) -> gr.Number:
    return gr.Number(None, label=label, precision=precision, min_width=110, elem_id=id_)


def _outcomes(reasons: Sequence[str]) -> list[tuple[str, str]]:
    return [
        ("any", ""),
        (TRAINED, TRAINED),
        (DROPPED, DROPPED),
        *((f"left out: {reason}", reason) for reason in reasons),
    ]
