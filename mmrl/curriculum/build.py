"""From what a config says to a sampler: a name, or a name with settings.

train: {sampler: shuffled}
train: {sampler: {type: variance_aware, share: 0.5}}
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.curriculum.catalog import SAMPLERS
from mmrl.curriculum.sampler import PromptSampler
from mmrl.errors import ConfigError, nearest, unknown_name
from mmrl.types import Sample

_ACCEPTED: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
LIMITS: dict[str, tuple[float, float]] = {  # by the settings' names, which mean the same in every sampler
    "share": (0, 1),
    "rate": (0, 1),
    "temperature": (1e-6, math.inf),
    "hard": (0, 1),
    "capacity": (1, math.inf),
    "first": (0, 1),
    "draws": (1, math.inf),
    "outcome": (0, math.inf),
    "diversity": (0, math.inf),
    "floor": (1e-9, math.inf),
    "keep": (0, 1),
    "weight": (1e-9, math.inf),
    "least": (1, math.inf),
    "most": (1, math.inf),
    "hopeful": (0, 1),
}


def build_sampler(spec: str | Mapping[str, Any], samples: Sequence[Sample], *, seed: int) -> PromptSampler:
    """The sampler a config asks for. Raises ConfigError naming the setting that is wrong."""
    name, options = read_spec(spec)
    sampler: PromptSampler = SAMPLERS[name](samples, seed=seed, **options)
    return sampler


def read_spec(spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(sampler's name, its settings), checked without any samples. Raises ConfigError."""
    options = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = str(options.pop("type", ""))
    if name not in SAMPLERS:
        raise ConfigError(f"train.sampler: {unknown_name('sampler', name, SAMPLERS)}")
    known = settings(name)
    for key, value in options.items():
        if key not in known:
            guess = nearest(key, known)
            hint = f" Did you mean {guess!r}?" if guess else ""
            listed = ", ".join(known) or "none"
            raise ConfigError(f"train.sampler: {name} has no setting {key!r}.{hint} It has: {listed}.")
        declared = str(known[key].annotation)
        if isinstance(value, bool) != (declared == "bool") or not isinstance(value, _ACCEPTED[declared]):
            raise ConfigError(f"train.sampler.{key}: expected a value of type {declared}, got {value!r}.")
        low, high = LIMITS.get(key, (-math.inf, math.inf))
        if isinstance(value, int | float) and not low <= value <= high:
            raise ConfigError(f"train.sampler.{key}: expected a number from {low:g} to {high:g}, got {value!r}.")
    if name == "knapsack":
        least, most = (int(options.get(key, known[key].default)) for key in ("least", "most"))
        if least > most:
            raise ConfigError(f"train.sampler.least: {least} is more than most ({most}).")
    return name, options


def settings(name: str) -> dict[str, inspect.Parameter]:
    """A sampler's own settings, with their defaults."""
    parameters = inspect.signature(SAMPLERS[name].__init__).parameters
    return {key: value for key, value in parameters.items() if key not in ("self", "samples", "seed")}
