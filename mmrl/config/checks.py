"""What must fit together between keys and with the catalogues. The schema checks one key at a time; this file the rest.

A check is a function from the sections it needs to the mistakes in them. It runs when those sections are sound by
themselves, so that all mistakes of a config come out at once, whatever else is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.config.paths import names_shipped_recipe
from mmrl.config.schema import (
    BackendConfig,
    ColdStartConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    PromptConfig,
    RewardConfig,
    RolloutConfig,
    RunConfig,
    TrainConfig,
)
from mmrl.config.tree import KeyPath
from mmrl.errors import ConfigError, unknown_name

Mistake = tuple[KeyPath, str]  # the key, and what is wrong with it


@dataclass(frozen=True, slots=True)
class Check:
    """One check and the sections it reads, in the order of the function's arguments."""

    sections: tuple[str, ...]
    find: Callable[..., Iterator[Mistake]]


def output_goes_into_a_folder(run: RunConfig) -> Iterator[Mistake]:
    above = [Path(run.folder).expanduser().absolute(), *Path(run.folder).expanduser().absolute().parents]
    existing = next(path for path in above if path.exists())
    if not existing.is_dir():
        yield ("run", "folder"), f"{existing} is a file; name a folder"


def warmup_ends_within_training(train: TrainConfig) -> Iterator[Mistake]:
    if train.warmup_steps > train.steps:
        yield ("train", "warmup_steps"), _too_long(train.warmup_steps, "train.steps", train.steps)


def warmup_ends_within_cold_start(sft: ColdStartConfig | None) -> Iterator[Mistake]:
    if sft is not None and sft.warmup_steps > sft.steps:
        yield ("sft", "warmup_steps"), _too_long(sft.warmup_steps, "sft.steps", sft.steps)


def _too_long(warmup: int, key: str, steps: int) -> str:
    return f"{warmup} is more than {key} ({steps}), so that the learning rate never gets there; lower it"


def something_trains(train: TrainConfig) -> Iterator[Mistake]:
    if {"vision", "projector", "language"} <= set(train.freeze):
        yield ("train", "freeze"), "freezes every part of the model, so that nothing would train; leave one out"


def four_bits_have_adapters(model: ModelConfig, train: TrainConfig, backend: BackendConfig) -> Iterator[Mistake]:
    if model.four_bit and train.lora is None:
        yield ("model", "four_bit"), "4-bit weights are constants, so that nothing would train; give train.lora"
    if model.four_bit and backend.type == "deepspeed":
        yield ("model", "four_bit"), "4-bit weights cannot be spread over ranks; set backend.type: torch"


def backend_can_do_it(train: TrainConfig, backend: BackendConfig) -> Iterator[Mistake]:
    stage = backend.zero_stage if backend.type == "deepspeed" else None
    for key, least in (("offload_optimizer", 1), ("offload_weights", 3)):
        if getattr(backend, key) == "none":
            continue
        if stage is None:
            yield ("backend", key), "is DeepSpeed's, with backend.type torch nothing would be offloaded; set deepspeed"
        elif stage < least:
            text = f"needs backend.zero_stage {least} or more; at stage {stage} every rank holds what it would offload"
            yield ("backend", key), text
    if train.optimizer == "adamw_8bit" and stage is not None and backend.offload_optimizer != "none":
        text = "adamw_8bit with backend.offload_optimizer: DeepSpeed's optimiser for offloaded memory is AdamW in 32 "
        yield ("train", "optimizer"), text + "bits; take adamw with the offload, or adamw_8bit on the GPU"


def adapters_can_train(train: TrainConfig) -> Iterator[Mistake]:
    if train.lora is not None and set(train.lora.parts) <= set(train.freeze):
        text = f"freezes {', '.join(train.lora.parts)}, where train.lora puts its adapters, so that nothing would train"
        yield ("train", "freeze"), text


def adapter_off_has_adapters(algorithm: str | Mapping[str, Any], train: TrainConfig) -> Iterator[Mistake]:
    from mmrl.algorithms.build import build_algorithm
    from mmrl.algorithms.reference import AdapterOff

    try:
        reference = build_algorithm(algorithm).reference
    except ConfigError:
        return  # said by algorithm_can_be_built
    if isinstance(reference, AdapterOff) and train.lora is None:
        yield ("algorithm", "reference"), "adapter_off needs adapters; give train.lora, or take frozen"


def prompts_split_into_minibatches(rollout: RolloutConfig, train: TrainConfig) -> Iterator[Mistake]:
    prompts, parts = rollout.prompts_per_step, train.minibatches
    if prompts % parts:
        text = f"{parts} minibatches of equal size cannot be made of rollout.prompts_per_step ({prompts}) prompts"
        yield ("train", "minibatches"), text


def pixels_in_order(model: ModelConfig) -> Iterator[Mistake]:
    low, high = model.min_pixels, model.max_pixels
    if low is not None and high is not None and low > high:
        yield ("model", "min_pixels"), f"{low} is more than model.max_pixels ({high})"


def tiny_model_has_whole_heads(model: ModelConfig) -> Iterator[Mistake]:
    tiny = model.tiny
    if tiny is None:
        return
    if tiny.hidden_size % tiny.heads:
        yield ("model", "tiny", "heads"), f"{tiny.heads} does not divide model.tiny.hidden_size ({tiny.hidden_size})"
    if tiny.heads % tiny.key_value_heads:
        text = f"{tiny.key_value_heads} does not divide model.tiny.heads ({tiny.heads})"
        yield ("model", "tiny", "key_value_heads"), text


def evaluation_has_data(data: DataConfig, evaluation: EvaluationConfig) -> Iterator[Mistake]:
    if evaluation.every and data.train is not None and data.validation is None:
        text = "evaluates during training on data.validation, which is not given; give it, or set evaluation.every to 0"
        yield ("evaluation", "every"), text


def rewards_can_be_built(rewards: Mapping[str, tuple[RewardConfig, ...]]) -> Iterator[Mistake]:
    if not rewards:
        yield ("rewards",), "names no task; the set named `default` serves every task without one of its own"
    for task, rewards_of_task in rewards.items():
        if not rewards_of_task:
            yield ("rewards", task), "has no reward; give at least one"
        for index, reward in enumerate(rewards_of_task):
            for key, text in _reward_mistakes(reward):
                yield ("rewards", task, index, key), text


def _reward_mistakes(config: RewardConfig) -> Iterator[tuple[str, str]]:
    from mmrl.rewards.catalog import REWARDS, reward

    if config.path is not None:
        if config.path.count(":") != 1:
            yield "path", f"{config.path!r} is not of the form package.module:function"
    elif config.name not in REWARDS:
        yield "name", unknown_name("reward", str(config.name), REWARDS)
    else:
        try:
            reward(config.name, **config.options)
        except ConfigError as error:
            yield "options", str(error)


def rewards_ask_for_the_prompt_s_form(
    prompt: PromptConfig, rewards: Mapping[str, tuple[RewardConfig, ...]]
) -> Iterator[Mistake]:
    from mmrl.policy.forms import FORMS
    from mmrl.rewards.catalog import REWARDS

    form = FORMS[prompt.mode]
    for task, rewards_of_task in rewards.items():
        for index, reward in enumerate(rewards_of_task):
            function = REWARDS[reward.name].function if reward.name in REWARDS else None
            at = ("rewards", task, index)
            if reward.name == "format":
                tags = tuple(reward.options.get("tags", getattr(function, "tags", ())))
                if not form.tags:
                    yield (*at, "name"), f"prompt.mode {prompt.mode} asks for no form, so format never pays; remove it"
                elif tags != form.tags:
                    wanted = ", ".join(form.tags)
                    yield (
                        at,
                        f"format wants {list(tags)}, and prompt.mode {prompt.mode} asks for [{wanted}]: set "
                        + (f"options: {{tags: [{wanted}]}}"),
                    )
            elif not form.answer_tag and reward.options.get("answer_tag", getattr(function, "answer_tag", "")):
                text = f"prompt.mode {prompt.mode} asks for no tags, so that {reward.name} finds no answer: set "
                yield at, text + 'options: {answer_tag: ""}'


def recipe_is_sound(data: DataConfig) -> Iterator[Mistake]:
    from mmrl.data.recipe_file import load_recipe

    if data.recipe is not None and (names_shipped_recipe(data.recipe) or Path(data.recipe).exists()):
        try:
            load_recipe(data.recipe)
        except ConfigError as error:
            yield ("data", "recipe"), str(error)


def algorithm_can_be_built(algorithm: str | Mapping[str, Any]) -> Iterator[Mistake]:
    from mmrl.algorithms.build import build_algorithm

    try:
        build_algorithm(algorithm)
    except ConfigError as error:
        head, _, text = str(error).partition(": ")  # its messages begin with the key, as ours do
        at_key = head.split(".")[0] == "algorithm"
        yield tuple(head.split(".")) if at_key else ("algorithm",), text if at_key else str(error)


def sampler_can_be_built(train: TrainConfig) -> Iterator[Mistake]:
    from mmrl.curriculum.build import read_spec

    try:
        read_spec(train.sampler)
    except ConfigError as error:
        head, _, text = str(error).partition(": ")
        yield tuple(head.split(".")), text


def rollouts_can_be_shared(rollout: RolloutConfig, train: TrainConfig) -> Iterator[Mistake]:
    from mmrl.curriculum.build import read_spec, settings

    try:
        name, options = read_spec(train.sampler)
    except ConfigError:
        return  # said by sampler_can_be_built
    if name == "knapsack":
        least, most = (int(options.get(key, settings(name)[key].default)) for key in ("least", "most"))
        if not least <= rollout.group_size <= most:
            text = f"{rollout.group_size} is not between train.sampler's least ({least}) and most ({most}) rollouts"
            yield ("rollout", "group_size"), f"{text} of a prompt; it is their mean"


def rollouts_can_be_ahead(rollout: RolloutConfig) -> Iterator[Mistake]:
    if not rollout.ahead:
        return
    if rollout.engine != "vllm_server":
        why = {
            "transformers": "samples from the very weights that are being trained",
            "vllm": "takes turns with training on the same processor, so that nothing would be gained",
        }[rollout.engine]
        text = f"needs rollout.engine vllm_server, which samples in other processes: {rollout.engine} {why}"
        yield ("rollout", "ahead"), text
    if rollout.correction.kind == "none":
        text = "needs rollout.correction, since its rollouts are another policy's: set kind truncated or masked"
        yield ("rollout", "ahead"), text


def servers_are_told_apart(rollout: RolloutConfig) -> Iterator[Mistake]:
    urls, gpus = rollout.servers.urls, rollout.servers.gpus
    twice = [url for url in dict.fromkeys(urls) if urls.count(url) > 1]
    if twice:
        yield ("rollout", "servers", "urls"), f"names {', '.join(twice)} more than once; name each once"
    servers = rollout.servers.start or len(urls)
    if gpus and len(gpus) < servers:
        text = f"{len(gpus)} for {servers} servers; name one for each (with start: each of each rank), or none"
        yield ("rollout", "servers", "gpus"), text


CHECKS: tuple[Check, ...] = (
    Check(("run",), output_goes_into_a_folder),
    Check(("model",), pixels_in_order),
    Check(("model",), tiny_model_has_whole_heads),
    Check(("data",), recipe_is_sound),
    Check(("rewards",), rewards_can_be_built),
    Check(("prompt", "rewards"), rewards_ask_for_the_prompt_s_form),
    Check(("sft",), warmup_ends_within_cold_start),
    Check(("algorithm",), algorithm_can_be_built),
    Check(("train",), warmup_ends_within_training),
    Check(("train",), something_trains),
    Check(("train",), adapters_can_train),
    Check(("model", "train", "backend"), four_bits_have_adapters),
    Check(("train", "backend"), backend_can_do_it),
    Check(("algorithm", "train"), adapter_off_has_adapters),
    Check(("train",), sampler_can_be_built),
    Check(("rollout", "train"), rollouts_can_be_shared),
    Check(("rollout", "train"), prompts_split_into_minibatches),
    Check(("rollout",), rollouts_can_be_ahead),
    Check(("rollout",), servers_are_told_apart),
    Check(("data", "evaluation"), evaluation_has_data),
)


def mistakes(sections: Mapping[str, Any]) -> Iterator[Mistake]:
    """What is wrong between the sections that are sound by themselves (the others are absent from `sections`)."""
    for check in CHECKS:
        if all(name in sections for name in check.sections):
            yield from check.find(*(sections[name] for name in check.sections))
