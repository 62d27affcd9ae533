"""The models behind the page: loaded as `mmrl generate` does, one or two of them, asked in the same form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmrl import build
from mmrl.config.schema import Config
from mmrl.pipeline.models import config_of_model, plain_config, run_of
from mmrl.policy.forms import FORMS

if TYPE_CHECKING:
    from mmrl.policy.render import Renderer
from mmrl_apps.demo.asking import Speaker

EngineName = Literal["transformers", "vllm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A model as it was given and where it is."""

    given: str  # what stands on the page
    path: str  # a folder in Hugging Face layout, or a hub name


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Loaded models and the settings they are asked with."""

    speakers: tuple[Speaker, ...]
    config: Config
    run: Path | None  # the run folder the first model lies in
    device: str


@contextmanager
def open_models(
    models: Sequence[Named], *, mode: str | None = None, engine_name: EngineName = "transformers", device: str = "cpu"
) -> Iterator[Opened]:
    """The models, loaded until the block ends. All are asked as in the run of the first: prompt, picture sizes, frames.

    Raises ModelError where a model cannot be loaded, ConfigError where engine or device are not to be had.
    """
    run = run_of(models[0].path)
    config = config_of_model(models[0].path) if run is not None else plain_config(models[0].path)
    config = _asked(config, mode, engine_name, device)
    build.check_engine_is_installed(config)
    tag = FORMS[config.prompt.mode].answer_tag
    found = device
    speakers: list[Speaker] = []
    renderers: list[Renderer] = []
    try:
        for model in models:
            loaded = build.load_policy(config, model.path)
            found = str(next(loaded.policy.parameters()).device)
            renderers.append(build.build_renderer(config, loaded))
            engine = build.build_engine(config, loaded, rests=False)
            speakers.append(Speaker(name=model.given, engine=engine, renderer=renderers[-1], answer_tag=tag))
        yield Opened(speakers=tuple(speakers), config=config, run=run, device=found)
    finally:
        for speaker in speakers:
            build.close_engine(speaker.engine)
        for renderer in renderers:
            renderer.close()


def _asked(config: Config, mode: str | None, engine: EngineName, device: str) -> Config:
    """With these settings; without the checks of a training run, whose rewards may not fit another mode."""
    update: dict[str, Any] = {
        "backend": config.backend.model_copy(update={"device": device}),
        "rollout": config.rollout.model_copy(update={"engine": engine}),
    }
    if mode is not None:
        update["prompt"] = config.prompt.model_copy(update={"mode": mode})
    return config.model_copy(update=update)
