"""What can be done with a model once there is one: find its config, ask it, take it along."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl import build
from mmrl.config.load import load_config
from mmrl.config.schema import Config, RewardConfig
from mmrl.errors import ConfigError, DataError, ModelError, unknown_name
from mmrl.types import Answer, AnswerType, Completion, Media, Sample

if TYPE_CHECKING:
    from mmrl.policy.forms import Mode
    from mmrl.policy.load import LoadedModel
    from mmrl.policy.render import Renderer


def run_of(path: str) -> Path | None:
    """The run folder that a model lies in; None where it lies in none, as one of a hub."""
    if not Path(path).exists():
        return None
    for folder in [Path(path).resolve(), *Path(path).resolve().parents][:4]:
        if (folder / "config.yaml").is_file():
            return folder
    return None


def config_of_model(path: str) -> Config:
    """The config of the run a model folder lies in: how it was prompted and what was correct."""
    run = run_of(path)
    if run is not None:
        return load_config(run / "config.yaml")
    raise ConfigError(
        f"{path} lies in no run folder, so its prompts and rewards are not known. Say them with --config CONFIG."
    )


def plain_config(path: str, mode: Mode = "think_answer") -> Config:
    """Of a model outside of a run: the processor's own limits, and rewards for a choice."""
    from mmrl.policy.forms import FORMS

    if mode not in FORMS:
        raise ConfigError(f"prompt.mode: {unknown_name('form', str(mode), FORMS)}")
    rewards = [reward.model_dump(exclude_none=True) for reward in usual_rewards("choice", mode)]
    return Config.model_validate(
        {
            "run": {"name": "plain"},
            "model": {"path": path},
            "data": {"train": "none"},
            "prompt": {"mode": mode},
            "rewards": {"default": rewards},
        }
    )


def usual_rewards(kind: AnswerType, mode: Mode) -> tuple[RewardConfig, ...]:
    """The accuracy reward that suits this type of answer, and the form that is asked for, if one is."""
    from mmrl.policy.forms import FORMS
    from mmrl.rewards.catalog import USUAL

    form = FORMS[mode]
    options: dict[str, Any] = {} if form.answer_tag == "answer" else {"answer_tag": form.answer_tag}
    chosen = RewardConfig(name=USUAL[kind], options=options)
    if not form.tags:
        return (chosen,)
    return chosen, RewardConfig(name="format", weight=0.5, options={"tags": list(form.tags)})


def generate_answer(
    model: str,
    question: str,
    media: Sequence[str],
    *,
    clips: Sequence[str] = (),
    choices: Sequence[str] = (),
    mode: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = 256,
    seed: int = 0,
    on_text: Callable[[str], None] | None = None,
) -> Completion:
    """`mmrl generate`: one completion about the given pictures, then clips.

    Media are shown, and without `mode` the form is asked for, as in the model's run; outside of one by the processor's
    limits, and reasoning and answer. `on_text` gets the pieces as they are written.
    """
    from mmrl.policy.load import load_model
    from mmrl.rollout.engine import Sampling
    from mmrl.rollout.transformers_engine import TransformersEngine

    loaded = load_model(model)
    sample = Sample(
        id="question",
        task="question",
        question=question,
        media=(
            *(Media(type="image", path=str(Path(path).resolve())) for path in media),
            *(Media(type="video", path=str(Path(path).resolve())) for path in clips),
        ),
        choices=tuple(choices),
        # The answer is what is being asked; only its type is used, to word the instruction.
        answer=Answer(type="choice", value="A") if choices else Answer(type="text", value=""),
    )
    renderer = _renderer_of_model(model, loaded, mode)
    prompts, dropped = renderer.render([sample])
    renderer.close()
    if dropped:
        raise DataError(f"{dropped[0].detail}")
    engine = TransformersEngine(loaded.policy, loaded.processor.tokenizer, run_seed=seed)
    sampling = Sampling(group_size=1, max_tokens=max_tokens, temperature=temperature, purpose="generate")
    return engine.stream(prompts[0], sampling, on_text=on_text or (lambda text: None)).completion


def _renderer_of_model(path: str, model: LoadedModel, mode: str | None) -> Renderer:
    from mmrl.policy.render import Renderer

    try:
        config = config_of_model(path)
    except ConfigError:
        form: Any = mode or "think_answer"
        return Renderer(model.processor, model.policy.family, model.policy.config, mode=form)
    if mode is not None:  # without the checks of a training run: nothing is scored here, whatever its rewards ask for
        config = config.model_copy(update={"prompt": config.prompt.model_copy(update={"mode": mode})})
    return build.build_renderer(config, model)


def copy_model(folder: Path, out: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no model there.")
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(folder, aside, ignore=shutil.ignore_patterns("trainer"))
    aside.rename(out)
    return out
