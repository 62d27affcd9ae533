"""From models to an open page, and everything put away afterwards. Behind `mmrl app demo`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl_apps.demo.asking import Desk
from mmrl_apps.demo.examples import examples
from mmrl_apps.demo.handlers import Demo
from mmrl_apps.demo.keeping import Keeper
from mmrl_apps.demo.models import EngineName, Named, open_models
from mmrl_apps.demo.session import Sessions
from mmrl_apps.demo.uploads import Limits, Uploads

if TYPE_CHECKING:
    import gradio as gr


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A page that can be served."""

    demo: Demo
    page: gr.Blocks


@contextmanager
def ready(
    models: Sequence[Named],
    *,
    keep: Path,
    mode: str | None = None,
    engine: EngineName = "transformers",
    device: str = "cpu",
    limits: Limits | None = None,
) -> Iterator[Ready]:
    """The page for one model, or for a model beside its base. What visitors upload is gone when it is closed."""
    folder = Path(tempfile.mkdtemp(prefix="mmrl-demo-"))
    uploaded = folder / "uploaded"
    uploaded.mkdir()
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(uploaded)  # read when the page is built: what Gradio serves lies in here alone
    uploads = Uploads(uploaded, limits=limits)
    sessions = Sessions(folder / "sessions")
    try:
        with open_models(models, mode=mode, engine_name=engine, device=device) as opened:
            demo = Demo(
                desk=Desk(opened.speakers),
                uploads=uploads,
                sessions=sessions,
                keeper=Keeper(keep),
                examples=examples(folder / "examples", config=opened.config, run=opened.run),
            )
            from mmrl_apps.demo.app import build

            facts = f"{engine} on {opened.device} · asked for “{opened.config.prompt.mode}” as "
            facts += f"in {opened.run.name}" if opened.run is not None else "by default"
            yield Ready(demo=demo, page=build(demo, title=models[0].given, facts=facts))
    finally:
        sessions.close()
        uploads.close()
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
