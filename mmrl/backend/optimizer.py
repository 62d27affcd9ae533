"""The optimiser: which parameters learn how fast, the schedule, AdamW in 32 or 8 bits, and its memory by name.

The memory is kept by the names of parameters, never by their order or their place in a shard: what one process wrote,
eight with other ZeRO stages read, and the other way round (`backend.py`, "state").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.eight_bit import SMALLEST, STATES, rounded, written_out
from mmrl.errors import ConfigError
from mmrl.policy.policy import Policy

BASE = "base_rate"  # in a parameter group: its learning rate before the schedule
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW remembers of each number, besides how many updates there were
Named = Sequence[tuple[str, nn.Parameter]]
Moments = dict[str, dict[str, Any]]  # parameter's name → what AdamW remembers of it


def freeze_parts(policy: Policy, parts: Sequence[str]) -> None:
    """Make the parameters of these parts (vision, projector, language) constants."""
    modules = policy.family.vision_parts(policy.model)
    for name in parts:
        for module in modules[name]:
            module.requires_grad_(False)


def trainable(policy: Policy) -> Named:
    """What learns, by its name in the Hugging Face model. Raises ConfigError where nothing does."""
    found = [(name, value) for name, value in policy.model.named_parameters() if value.requires_grad]
    if not found:
        raise ConfigError("train.freeze freezes every part of the model; leave at least one to train.")
    return found


def parameter_groups(
    policy: Policy, named: Named, values: Sequence[Tensor], settings: OptimizerSettings
) -> list[dict[str, Any]]:
    """`values` (those of `named`, or what the optimiser changes in their place) by learning rate, in their order.

    A part without a rate of its own learns at `settings.learning_rate`.
    """
    rates: dict[int, float] = {}
    for part, modules in policy.family.vision_parts(policy.model).items():
        rate = settings.part_learning_rates.get(part, settings.learning_rate)
        rates |= {id(parameter): rate for module in modules for parameter in module.parameters()}
    groups: dict[float, list[Tensor]] = {}
    for (_, parameter), value in zip(named, values, strict=True):
        groups.setdefault(rates.get(id(parameter), settings.learning_rate), []).append(value)
    return [{"params": found, "lr": rate, BASE: rate} for rate, found in groups.items()]


def build_optimizer(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW over these groups."""
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": settings.betas,
        "weight_decay": settings.weight_decay,
    }
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, **options)
    try:
        from bitsandbytes.optim.adamw import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            "train.optimizer is adamw_8bit, which bitsandbytes provides, and it is not installed here. "
            "pip install 'mmrl[quantized]', or set train.optimizer: adamw."
        ) from error
    eight_bit: torch.optim.Optimizer = AdamW8bit(groups, **options)
    return eight_bit


def set_rates(groups: Iterable[dict[str, Any]], share: float) -> None:
    """Give every group its learning rate times the schedule's share."""
    for group in groups:
        group["lr"] = group[BASE] * share


def schedule(settings: OptimizerSettings, update: int) -> float:
    """The share of the learning rate that update number `update` (from 0) takes.

    Warm-up rises linearly, 1/w for the first of w updates; then constant, or down to `final_fraction` at `steps`.
    """
    if update < settings.warmup_steps:
        return (update + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    span = max(1, settings.steps - 1 - settings.warmup_steps)
    done = min(1.0, (update - settings.warmup_steps) / span)
    left = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.final_fraction + (1.0 - settings.final_fraction) * left


def moments(optimizer: torch.optim.Optimizer, named: Named, values: Sequence[Tensor]) -> Moments:
    """What the optimiser remembers of each of `values`, under the names of `named`; nothing before the first update."""
    found: Moments = {}
    for (name, _), value in zip(named, values, strict=True):
        if value in optimizer.state:
            found[name] = dict(optimizer.state[value])
    return found


def load_moments(
    optimizer: torch.optim.Optimizer, named: Named, values: Sequence[Tensor], saved: Mapping[str, Mapping[str, Any]]
) -> None:
    """The opposite of `moments`. Raises ConfigError where another optimiser or other parameters were saved."""
    eight_bit = is_eight_bit(optimizer)
    check_moments(saved, [name for name, _ in named], eight_bit=eight_bit)
    optimizer.state.clear()
    for (name, _), value in zip(named, values, strict=True):
        if name not in saved:
            continue
        memory = saved[name]
        if eight_bit and value.numel() >= SMALLEST and memory[STATES[0]].dtype == torch.float32:  # written by shards
            memory = rounded({key: memory[key] for key in STATES}, step=int(memory["step"]))
        optimizer.state[value] = {key: _placed(key, kept, value) for key, kept in memory.items()}


def is_eight_bit(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it keeps its memory in 8 bits."""
    return hasattr(optimizer, "name2qmap")  # bitsandbytes' only: asking by its class would import it


def plain_moment(memory: Mapping[str, Any], key: str) -> Tensor:
    """`exp_avg` or `exp_avg_sq` in float32, whichever optimiser kept it."""
    if key in memory:
        found: Tensor = memory[key]
        return found
    return written_out(memory, STATES[MOMENTS.index(key)])


def check_moments(saved: Mapping[str, Mapping[str, Any]], names: Sequence[str], *, eight_bit: bool) -> None:
    """Whether a checkpoint's optimiser is this one, of these parameters."""
    unknown = sorted(saved.keys() - set(names))
    if unknown:
        raise ConfigError(
            f"the checkpoint's optimiser trained {unknown[0]!r} and {len(unknown) - 1} more parameters that do not "
            "train now (train.freeze, train.lora). Resume with the settings the run began with."
        )
    keys = {key for memory in saved.values() for key in memory}
    if saved and ("exp_avg" in keys) == eight_bit:
        kind = "adamw" if eight_bit else "adamw_8bit"
        raise ConfigError(f"the checkpoint's optimiser is {kind}: set train.optimizer to it to go on.")


def _placed(key: str, kept: Any, value: Tensor) -> Any:
    """A copy where the optimiser wants it: AdamW counts on the processor, everything else lies beside the parameter."""
    if not isinstance(kept, Tensor):
        return kept
    return kept.clone() if key == "step" else kept.to(value.device, copy=True)
