"""The demo's page: controls and how they are wired to `handlers.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from mmrl_apps.demo import panes
from mmrl_apps.demo.handlers import Demo, Page
from mmrl_apps.demo.question import FRAMES, KINDS, LONGEST_QUESTION, MOST_SAMPLES, MOST_TOKENS, Form
from mmrl_apps.demo.uploads import ENDINGS
from mmrl_apps.shared.markup import fragment

_WITH_OPTIONS = ("One of the options", "Several of the options")
_HOUR = 3600  # seconds
_SLOT = "mm-slot"  # takes no room while it is empty


def build(demo: Demo, *, title: str, facts: str) -> gr.Blocks:
    """The page. `facts`: one line under the title: engine, device."""
    names = [speaker.name for speaker in demo.desk.speakers]
    page: gr.Blocks = gr.Blocks(title=f"mmrl demo: {title}", analytics_enabled=False, delete_cache=(_HOUR, 4 * _HOUR))
    with page:
        gr.HTML(fragment("demo_head.html.j2", title=title, facts=facts))
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                files, camera, recording = _media_controls(demo)
                seen = gr.HTML(panes.nothing_shown(), elem_id="mm-seen")
                question = gr.Textbox(
                    label="Question",
                    value="",
                    lines=3,
                    max_length=LONGEST_QUESTION,
                    placeholder="What is in the picture? Shift+Enter asks.",
                    elem_id="mm-question",
                )
                kind = gr.Dropdown(list(KINDS), value="Free text", label="The answer is", elem_id="mm-kind")
                options = gr.Textbox(
                    label="Options, one a line", value="", lines=4, visible=False, elem_id="mm-options"
                )
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", min_width=80, elem_id="mm-ask")
                    stop = gr.Button("Stop", min_width=80, elem_id="mm-stop")
                    clear = gr.Button("Clear", min_width=80, elem_id="mm-clear")
                sampling = _sampling_controls()
                keep_all = gr.Checkbox(
                    label="Keep every exchange as a trace",
                    info=f"In {demo.keeper.folder}; mmrl app inspect opens it.",
                    elem_id="mm-keep-all",
                )
                gallery = _examples(demo)
            with gr.Column(scale=7, min_width=320):
                status = gr.HTML(
                    _status("Ask something: the answer appears here as it is written."), elem_id="mm-status"
                )
                drawing = gr.HTML("", elem_id="mm-drawing", elem_classes=_SLOT)
                with gr.Row(equal_height=False):
                    columns = [_column(number, name, len(names)) for number, name in enumerate(names)]
                keep = gr.Button("Keep this exchange as a trace", elem_id="mm-keep")
                kept = gr.HTML("", elem_id="mm-kept", elem_classes=_SLOT)
        uploads = [files, camera, recording]
        form = [question, kind, options, *sampling]
        outputs = [status, drawing, *(part for column in columns for part in column)]

        def on_ask(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
            texts = ("" if value is None else value for value in values[:3])  # an untouched field may come as nothing
            given = Form(**dict(zip(_FORM, (*texts, *values[3 : len(form)]), strict=True)))
            wanted = bool(values[-1])
            for shown in demo.ask(_visitor(request), given, _paths(values[len(form) : -1]), keep=wanted):
                yield _outputs(shown)

        def on_look(request: gr.Request, *values: Any) -> str:
            html, trouble = demo.look(_visitor(request), _paths(values))
            if trouble:
                gr.Warning(fragment("plain.html.j2", text=trouble), title="Not added")
            return html

        def on_choose(event: gr.SelectData, request: gr.Request) -> tuple[Any, ...]:
            chosen = demo.choose(_visitor(request), int(event.index))
            if isinstance(chosen, str):
                raise gr.Error(chosen)
            filled, html = chosen
            shown = gr.update(value=filled.options, visible=filled.kind in _WITH_OPTIONS)
            return None, None, None, html, filled.question, filled.kind, shown

        def on_clear(request: gr.Request) -> tuple[Any, ...]:
            html = demo.clear(_visitor(request))
            hidden = gr.update(value="", visible=False)
            nothing = [part for _ in columns for part in ("", "", "", "")]
            said = _status("Cleared. Ask something new.")
            return None, None, None, html, "", "Free text", hidden, said, "", *nothing, ""

        def on_stop(request: gr.Request) -> None:
            demo.stop(_visitor(request))

        def on_keep(request: gr.Request) -> str:
            return _status(demo.keep(_visitor(request)))

        def on_leave(request: gr.Request) -> None:
            demo.leave(_visitor(request))

        asked: dict[str, Any] = {
            "fn": on_ask,
            "inputs": [*form, *uploads, keep_all],
            "outputs": outputs,
            "concurrency_limit": 1,  # the models answer one visitor at a time; the others see their place in the queue
            "concurrency_id": "models",
            "show_progress": "minimal",
            "show_progress_on": status,
            "trigger_mode": "once",
            "scroll_to_output": True,  # on a phone the answer is below the form
            "api_visibility": "private",
        }
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        ask.click(**asked)
        question.submit(**asked)
        stop.click(on_stop, **quiet)
        keep.click(on_keep, outputs=kept, **quiet)
        files.change(on_look, inputs=uploads, outputs=seen, **quiet)
        camera.change(on_look, inputs=uploads, outputs=seen, **quiet)
        recording.change(on_look, inputs=uploads, outputs=seen, **quiet)
        kind.change(lambda name: gr.update(visible=name in _WITH_OPTIONS), inputs=kind, outputs=options, **quiet)
        chosen_into = [*uploads, seen, question, kind, options]
        if gallery is not None:
            gallery.select(on_choose, outputs=chosen_into, **quiet)
        clear.click(on_clear, outputs=[*chosen_into, *outputs, kept], **quiet)
        page.unload(on_leave)
    return page


_FORM = (
    "question", "kind", "options", "samples", "temperature", "top_p", "top_k", "max_tokens", "seed", "frames",
)  # fmt: skip


def _media_controls(demo: Demo) -> tuple[gr.File, gr.Image, gr.Video]:
    limits = demo.uploads.limits
    with gr.Tab("Files"):
        files = gr.File(
            label=f"Pictures and clips: up to {limits.files} files of {limits.file_bytes // 2**20} MiB",
            file_count="multiple",
            file_types=list(ENDINGS),
            height=140,
            elem_id="mm-files",
        )
    with gr.Tab("Camera: picture"):
        camera = gr.Image(
            label="A picture from the camera", sources=["webcam"], type="filepath", image_mode=None, height=240
        )
    with gr.Tab("Camera: clip"):
        recording = gr.Video(
            label="A clip from the camera",
            sources=["webcam"],
            height=240,
            webcam_options=gr.WebcamOptions(mirror=False),  # mirroring would be a conversion outside of the worker
        )
    return files, camera, recording


def _sampling_controls() -> list[gr.Slider | gr.Number]:
    """In the order of `_FORM`."""
    with gr.Accordion("Sampling", open=False, elem_id="mm-sampling"):
        return [
            gr.Slider(1, MOST_SAMPLES, 1, step=1, label="Samples", info="More than one: how far they agree."),
            gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0: always the likeliest token."),
            gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="1: all tokens."),
            gr.Number(0, label="Top-k", precision=0, minimum=0, info="0: all tokens."),
            gr.Slider(1, MOST_TOKENS, 256, step=1, label="Longest completion, tokens"),
            gr.Number(0, label="Seed", precision=0, minimum=0, info="The same seed gives the same completions."),
            gr.Slider(*FRAMES, 16, step=2, label="Frames of a clip, at most"),
        ]


def _examples(demo: Demo) -> gr.Gallery | None:
    if not demo.examples:
        gr.HTML(fragment("message.html.j2", text="No examples here: add a picture above.", kind="empty"))
        return None
    return gr.Gallery(
        value=[(panes.thumbnail(example.sample), panes.caption(example)) for example in demo.examples],
        label="Examples: choose one to fill the form",
        columns=3,
        height=320,
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="mm-examples",
    )


def _column(number: int, name: str, of: int) -> list[gr.components.Component]:
    with gr.Column(min_width=260):
        gr.HTML(fragment("demo_name.html.j2", letter=panes.letter(number) if of > 1 else "", name=name))
        return [
            gr.Textbox(
                label="Reasoning", lines=4, max_lines=14, interactive=False, elem_id=f"mm-reasoning-{number}",
                placeholder="What the model writes before its answer.",
            ),
            gr.Textbox(
                label="Answer", lines=2, max_lines=8, interactive=False, elem_id=f"mm-answer-{number}",
                placeholder="What it answers.",
            ),
            gr.HTML("", elem_id=f"mm-note-{number}", elem_classes=_SLOT),
            gr.HTML("", elem_id=f"mm-samples-{number}", elem_classes=_SLOT),
        ]  # fmt: skip


def _outputs(page: Page) -> tuple[Any, ...]:
    parts: list[Any] = [_status(page.status), gr.skip() if page.drawing is None else page.drawing]
    for pane in page.panes:
        note = fragment("message.html.j2", text=pane.note, kind="trouble") if pane.note else ""
        parts += [pane.reasoning, pane.answer, note, pane.samples]
    return tuple(parts)


def _status(text: str) -> str:
    return fragment("demo_status.html.j2", text=text)


def _visitor(request: gr.Request) -> str:
    return request.session_hash or "without a session"


def _paths(values: Sequence[Any]) -> list[str]:
    """The files among the upload controls' values: a list of paths, a path or nothing each."""
    given = [path for value in values for path in (value if isinstance(value, list) else [value])]
    return [str(path) for path in given if path]
