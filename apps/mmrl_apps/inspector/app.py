"""The inspector's page: which controls there are and which handler each one calls. Behaviour is in `handlers.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from mmrl_apps.inspector.compare_tab import CompareTab
from mmrl_apps.inspector.controls import choices_or_any, listed
from mmrl_apps.inspector.data_tab import DataTab
from mmrl_apps.inspector.group_page import NO_GROUP
from mmrl_apps.inspector.group_tab import GroupTab
from mmrl_apps.inspector.groups_page import CONTROLS
from mmrl_apps.inspector.groups_tab import GroupsTab
from mmrl_apps.inspector.handlers import Handlers, opened
from mmrl_apps.inspector.inspector import Inspector
from mmrl_apps.inspector.runs_tab import RunsTab
from mmrl_apps.shared.markup import message

FOLLOW_SECONDS = 3.0

_ADDRESS = """(view) => {
  if (!view) return;
  const fresh = new URLSearchParams(view), theme = new URLSearchParams(location.search).get('__theme');
  if (theme) fresh.set('__theme', theme);
  history.replaceState(null, '', location.pathname + '?' + fresh);
}"""
_DOWNLOAD = """(file) => {
  if (!file) return;
  const {name, kind, text} = JSON.parse(file);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: kind}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""


def build(inspector: Inspector) -> gr.Blocks:
    """The whole page."""
    handlers = Handlers(inspector)
    names = handlers.run_names()
    page: gr.Blocks
    with gr.Blocks(title="mmrl inspector", fill_width=True) as page:
        with gr.Row(equal_height=True):
            run = gr.Dropdown(
                names, value=names[0] if names else None, label="Run", scale=1, min_width=220, elem_id="run"
            )
            with gr.Column(scale=3, min_width=280):
                status = gr.HTML(handlers.status(names[0] if names else None), elem_id="status")
                follow = gr.Checkbox(
                    False, label="Follow: look again every few seconds while the run goes on", elem_id="follow"
                )
        view = gr.Textbox(visible="hidden", elem_id="view")  # the address of what is shown
        file = gr.Textbox(visible="hidden", elem_id="file")  # a file on its way to the browser's downloads
        filled = gr.State(None)  # the tab that the address has opened and filled; None until it has, then once
        where = gr.State(None)  # step and place of the open group
        with gr.Tabs(selected="groups") as tabs:
            with gr.Tab("Runs", id="runs") as runs_tab:
                runs = RunsTab(handlers, view)
            with gr.Tab("Groups", id="groups") as groups_tab:
                groups = GroupsTab(handlers, run, view, file)
            with gr.Tab("Group", id="group") as group_tab:
                group = GroupTab(handlers, run, where, groups, view, file)
            with gr.Tab("Data", id="data") as data_tab:
                data = DataTab(handlers, run, view)
            with gr.Tab("Compare", id="compare") as compare_tab:
                compare = CompareTab(handlers, view)

        view.change(None, view, None, js=_ADDRESS)
        file.change(None, file, None, js=_DOWNLOAD)

        def open_group(name: str | None, colour: str, event: gr.EventData) -> tuple[Any, ...]:
            at = opened(event._data.get("open") if isinstance(event._data, dict) else None)
            html, link = handlers.group(name, at, colour)
            return at, html, handlers.reward_set(name, at), "", link, gr.Tabs(selected="group")

        shown = [where, group.html, group.rewards, group.rescored, view, tabs]
        for listing in (groups.html, group.html):
            listing.submit(open_group, [run, group.colour], shown, show_progress="minimal")

        def other_run(name: str | None, *values: Any) -> tuple[Any, ...]:
            found = handlers.groups(name, {})
            manifests = handlers.manifests(name)
            chosen = manifests[0] if manifests else None
            samples = handlers.data(name, chosen)
            return (
                handlers.status(name),
                *groups.fresh(handlers.choices(name)),
                *listed(found),
                None,
                message(NO_GROUP),
                "",
                "",
                data.of(manifests, chosen),
                gr.Dropdown(choices_or_any(handlers.data_tasks(name, chosen)), value=""),
                *listed(samples)[:3],
                found.address,
            )

        run.input(
            other_run,
            [run],
            [
                status,
                *groups.controls,
                groups.html,
                groups.count,
                groups.page,
                where,
                group.html,
                group.rewards,
                group.rescored,
                data.manifest,
                data.task,
                data.html,
                data.count,
                data.page,
                view,
            ],
        )

        def tick(name: str | None, following: bool, at: int, *values: Any) -> tuple[Any, ...]:
            if not following:
                return handlers.status(name), gr.skip(), gr.skip(), gr.skip()
            tasks_now = handlers.groups(name, dict(zip(CONTROLS, values, strict=True)), at)
            return (handlers.status(name), *listed(tasks_now)[:3])

        timer = gr.Timer(FOLLOW_SECONDS)
        timer.tick(
            tick,
            [run, follow, groups.page, *groups.controls],
            [status, groups.html, groups.count, groups.page],
            show_progress="hidden",
        )
        timer.tick(runs.tick, [follow, *runs.controls], [runs.chart, runs.note, runs.warnings], show_progress="hidden")

        restored = [
            run,
            status,
            *runs.controls,
            runs.chart,
            runs.note,
            runs.readings,
            runs.warnings,
            runs.differences,
            *groups.controls,
            groups.html,
            groups.count,
            groups.page,
            where,
            group.colour,
            group.html,
            group.rewards,
            data.manifest,
            data.task,
            data.difficulty,
            data.text,
            data.html,
            data.count,
            data.page,
            compare.a,
            compare.b,
            compare.outcome,
            compare.task,
            compare.html,
            compare.count,
            compare.page,
            compare.pair,
            compare.id,
            tabs,
            filled,
        ]

        def restore(request: gr.Request) -> tuple[Any, ...]:
            query = handlers.restored(dict(request.query_params) if request else {})
            name = query["run"] or None
            return (
                gr.Dropdown(handlers.run_names(), value=name),
                handlers.status(name),
                *runs.restore(query),
                *groups.restore(name, query),
                *group.restore(name, query),
                *data.restore(name, query),
                *compare.restore(query),
                gr.Tabs(selected=query["tab"]),
                query["tab"],
            )

        # A tab is filled when it is opened. The one that the address opens is filled by `restore`, and the browser may
        # tell of its opening before `restore` has answered: what was filled then could be clicked, and what the click
        # has opened would be taken away by the answer.
        for tab, name, fill, inputs, outputs in (
            (runs_tab, "runs", runs.opened, runs.controls,
             [runs.chart, runs.note, runs.warnings, runs.differences, view]),
            (groups_tab, "groups", partial(groups.turned, 0), [groups.page, run, *groups.controls],
             [groups.html, groups.count, groups.page, view]),
            (group_tab, "group", handlers.group_link, [run, where, group.colour], [view]),
            (data_tab, "data", partial(data.turned, 0), [data.page, *data.asked],
             [data.html, data.count, data.page, view]),
            (compare_tab, "compare", compare.refreshed, [compare.page, compare.id, *compare.asked],
             [compare.task, compare.html, compare.count, compare.page, compare.pair, view]),
        ):  # fmt: skip
            tab.select(
                partial(_filled, name, fill, len(outputs)),
                [filled, *inputs],
                [filled, *outputs],
                show_progress="hidden",
            )

        page.load(restore, None, restored, show_progress="hidden")
    return page


def _filled(tab: str, fill: Callable[..., Any], count: int, already: str | None, *inputs: Any) -> tuple[Any, ...]:
    """What `fill` gives, unless the address has filled this tab or is still to fill one."""
    if already is None:
        return tuple(gr.skip() for _ in range(count + 1))
    if already == tab:
        return "", *(gr.skip() for _ in range(count))
    found = fill(*inputs)
    return "", *(found if isinstance(found, tuple) else (found,))
