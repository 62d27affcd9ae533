"""The tab Runs: its controls and which handler each one calls."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mmrl_apps.inspector.address import number
from mmrl_apps.inspector.handlers import Handlers
from mmrl_apps.inspector.runs_page import AXES


class RunsTab:
    def __init__(self, handlers: Handlers, view: gr.Textbox) -> None:
        self._handlers = handlers
        names = handlers.run_names()
        with gr.Row():
            self.runs = gr.Dropdown(names, value=names[:6], multiselect=True, label="Runs", elem_id="runs-shown")
            self.metrics = gr.Dropdown(
                handlers.metric_names(names),
                value=handlers.usual_metrics(names),
                multiselect=True,
                label="Metrics",
                elem_id="metrics",
            )
        with gr.Row():
            self.smoothing = gr.Slider(0, 0.98, value=0, step=0.02, label="Smoothing", elem_id="smoothing")
            self.axis = gr.Radio(list(AXES), value="step", label="Along", elem_id="axis")
        self.note = gr.HTML(elem_classes="mm-note")
        self.chart = gr.Plot(show_label=False, elem_id="curves")
        gr.Markdown("#### What the watcher saw")
        self.warnings = gr.HTML(elem_id="warnings")
        gr.Markdown("#### How the configs differ")
        self.differences = gr.HTML(elem_id="differences")
        with gr.Accordion("How to read these metrics", open=False):
            self.readings = gr.HTML()
        self.controls = [self.runs, self.metrics, self.smoothing, self.axis]
        self.runs.input(
            self.of_runs, self.controls, [self.metrics, self.chart, self.note, self.warnings, self.differences, view]
        )
        for control in (self.metrics, self.smoothing, self.axis):
            control.input(
                self.drawn, self.controls, [self.chart, self.note, self.readings, view], show_progress="hidden"
            )

    def of_runs(self, runs: list[str], metrics: list[str], smoothing: float, axis: str) -> tuple[Any, ...]:
        known = self._handlers.metric_names(runs)
        metrics = [name for name in metrics if name in known] or self._handlers.usual_metrics(runs)
        chart, note, link = self._handlers.curves(runs, metrics, smoothing, axis)
        return (
            gr.Dropdown(known, value=metrics),
            chart,
            note,
            self._handlers.warnings(runs),
            self._handlers.differences(runs),
            link,
        )

    def opened(self, runs: list[str], metrics: list[str], smoothing: float, axis: str) -> tuple[Any, ...]:
        """The tab as it stands now."""
        chart, note, link = self._handlers.curves(runs, metrics, smoothing, axis)
        return chart, note, self._handlers.warnings(runs), self._handlers.differences(runs), link

    def drawn(self, runs: list[str], metrics: list[str], smoothing: float, axis: str) -> tuple[Any, ...]:
        chart, note, link = self._handlers.curves(runs, metrics, smoothing, axis)
        return chart, note, self._handlers.readings(metrics), link

    def tick(
        self, following: bool, runs: list[str], metrics: list[str], smoothing: float, axis: str
    ) -> tuple[Any, ...]:
        if not following:
            return gr.skip(), gr.skip(), gr.skip()
        chart, note, _ = self._handlers.curves(runs, metrics, smoothing, axis)
        return chart, note, self._handlers.warnings(runs)

    def restore(self, query: dict[str, str]) -> tuple[Any, ...]:
        names = self._handlers.run_names()
        runs = [name for name in query.get("runs", "").split(",") if name in names] or names[:6]
        known = self._handlers.metric_names(runs)
        metrics = [name for name in query.get("metrics", "").split(",") if name in known]
        metrics = metrics or self._handlers.usual_metrics(runs)
        smoothing = number(query.get("smoothing")) or 0.0
        axis = query.get("axis") if query.get("axis") in AXES else "step"
        asked = query["tab"] == "runs"
        chart, note = self._handlers.curves(runs, metrics, smoothing, str(axis))[:2] if asked else (None, "")
        return (
            gr.Dropdown(names, value=runs),
            gr.Dropdown(known, value=metrics),
            smoothing,
            axis,
            chart,
            note,
            self._handlers.readings(metrics),
            self._handlers.warnings(runs),
            self._handlers.differences(runs),
        )
