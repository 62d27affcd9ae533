"""The models behind the page: loaded as `mmrl generate` does, one or two of them, asked in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrl import build
from mmrl.config.load import changed
from mmrl.config.schema import Config
from mmrl.errors import ConfigError
from mmrl.pipeline import config_of_model
from mmrl.policy.forms import FORMS
from mmrl_apps.demo.asking import Speaker


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


def open_models(
    models: Sequence[Named], *, mode: str | None = None, engine: str = "transformers", device: str = "cpu"
) -> Opened:
    """Load the models. All are asked as the run of the first one asked: prompt, picture sizes, frames.

    Raises ModelError where a model cannot be loaded, ConfigError where engine or device are not to be had.
    """
    run = run_of(models[0].path)
    config = config_of_model(models[0].path) if run is not None else _plain_config(models[0].path)
    overrides = [f"backend.device={device}"]
    if mode is not None:
        overrides.append(f"prompt.mode={mode}")
    config = changed(config, overrides)
    if engine != config.rollout.engine:
        config = _with_engine(config, engine)
    tag = FORMS[config.prompt.mode].answer_tag
    speakers = []
    found = device
    for model in models:
        loaded = build.load_policy(config, model.path)
        found = str(next(loaded.policy.parameters()).device)
        speakers.append(
            Speaker(
                name=model.given,
                engine=build.build_engine(config, loaded),
                renderer=build.build_renderer(config, loaded),
                answer_tag=tag,
            )
        )
    return Opened(speakers=tuple(speakers), config=config, run=run, device=found)


def run_of(path: str) -> Path | None:
    """The run folder that a model lies in; None where it lies in none."""
    for folder in [Path(path).resolve(), *Path(path).resolve().parents][:4]:
        if (folder / "config.yaml").is_file():
            return folder
    return None


def _with_engine(config: Config, engine: str) -> Config:
    try:
        return changed(config, [f"rollout.engine={engine}"])
    except ConfigError as error:
        raise ConfigError(
            f"--engine {engine}: this version of mmrl has no such engine. Leave the option out: the default engine "
            f"runs everywhere."
        ) from error


def _plain_config(path: str) -> Config:
    """Of a model outside of a run: reasoning and answer, the processor's own limits."""
    return Config.model_validate(
        {
            "run": {"name": "demo"},
            "model": {"path": path},
            "data": {"train": "none"},
            "rewards": {"default": [{"name": "format"}]},
        }
    )
