"""From what a config says to a sampler: a name, or a name with settings.

sampler: shuffled
sampler: {type: variance_aware, share: 0.5}
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmrl.curriculum.catalog import SAMPLERS
from mmrl.curriculum.sampler import PromptSampler
from mmrl.errors import ConfigError, nearest, unknown_name
from mmrl.types import Sample

_ACCEPTED: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}


def build_sampler(spec: str | Mapping[str, Any], samples: Sequence[Sample], *, seed: int) -> PromptSampler:
    """The sampler a config asks for. Raises ConfigError naming the setting that is wrong."""
    options = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = str(options.pop("type", ""))
    if name not in SAMPLERS:
        raise ConfigError(f"sampler: {unknown_name('sampler', name, SAMPLERS)}")
    known = settings(name)
    for key, value in options.items():
        if key not in known:
            guess = nearest(key, known)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise ConfigError(f"sampler: {name} has no setting {key!r}.{hint} It has: {', '.join(known) or 'none'}.")
        declared = str(known[key].annotation)
        if isinstance(value, bool) != (declared == "bool") or not isinstance(value, _ACCEPTED[declared]):
            raise ConfigError(f"sampler.{key}: expected a value of type {declared}, got {value!r}.")
    sampler: PromptSampler = SAMPLERS[name](samples, seed=seed, **options)
    return sampler


def settings(name: str) -> dict[str, inspect.Parameter]:
    """A sampler's own settings, with their defaults."""
    parameters = inspect.signature(SAMPLERS[name].__init__).parameters
    return {key: value for key, value in parameters.items() if key not in ("self", "samples", "seed")}
