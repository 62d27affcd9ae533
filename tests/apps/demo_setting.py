"""A demo with a scripted model, or a tiny real one, as the page has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmrl_apps.demo.asking import Desk, Speaker
from mmrl_apps.demo.examples import Example
from mmrl_apps.demo.handlers import Demo, Page
from mmrl_apps.demo.keeping import Keeper
from mmrl_apps.demo.question import Form
from mmrl_apps.demo.session import Sessions
from mmrl_apps.demo.uploads import Limits, Uploads

from mmrl.data.images import load_image
from mmrl.errors import MediaError
from mmrl.rollout.scripted_engine import ScriptedEngine
from mmrl.types import Dropped, MediaView, Prompt, Sample

Script = Callable[[Sample, int], str]


class PlainRenderer:
    """Prompts without a model: pictures are seen in their own pixels, clips at frames 0 and 1 of 8 a second."""

    def render(self, samples: Sequence[Sample]) -> tuple[list[Prompt], list[Dropped]]:
        prompts = []
        for sample in samples:
            try:
                views = tuple(_view(item.path or "") for item in sample.media)
            except MediaError as error:
                return [], [Dropped(sample_id=sample.id, stage="media", reason="broken", detail=str(error))]
            prompts.append(Prompt(sample=sample, text=sample.question, token_ids=(1, 2, 3), views=views))
        return prompts, []


def _view(path: str) -> MediaView:
    if path.endswith(".mp4"):
        return MediaView(
            width=96, height=64, spoken_width=96.0, spoken_height=64.0, seconds=(0.0, 0.125), frames=(0, 1)
        )
    width, height = load_image(path).size
    return MediaView(width=width, height=height, spoken_width=float(width), spoken_height=float(height))


def scripted(script: Script, *, name: str = "scripted", tag: str = "answer") -> Speaker:
    """A model that says what it is told to."""
    return Speaker(name=name, engine=ScriptedEngine(script), renderer=PlainRenderer(), answer_tag=tag)


def demo_of(folder: Path, *speakers: Speaker, limits: Limits | None = None, examples: Sequence[Example] = ()) -> Demo:
    """Everything under `folder`; uploads come to `folder/uploaded`."""
    (folder / "uploaded").mkdir(exist_ok=True)
    return Demo(
        desk=Desk(speakers),
        uploads=Uploads(folder / "uploaded", limits=limits),
        sessions=Sessions(folder / "sessions"),
        keeper=Keeper(folder / "kept"),
        examples=examples,
    )


def last(demo: Demo, form: Form, files: Sequence[Path] = (), *, visitor: str = "ann", **options: Any) -> Page:
    """What stays on the page after a question."""
    pages = list(demo.ask(visitor, form, [str(path) for path in files], keep=options.get("keep", False)))
    return pages[-1]
