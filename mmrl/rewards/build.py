"""Plain config values → the reward sets of a run.

    {"default": [{"name": "choice", "weight": 1.0}, {"name": "format", "weight": 0.5, "options": {"mode": "lenient"}}],
     "area":    [{"path": "my_pkg.rewards:area", "timeout_seconds": 2.0, "on_failure": "leave_out"}]}

A `path` names a function (completion, sample) → float or `Score` in [0, 1], a class or part whose fields are its
options, or a whole `Reward`, which also declares range, kind and answer types.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

from mmrl.errors import ConfigError, unknown_name
from mmrl.rewards.catalog import reward
from mmrl.rewards.reward import Reward
from mmrl.rewards.runtime import RewardUse

KEYS = ("name", "path", "weight", "options", "timeout_seconds", "on_failure", "normalize")


def reward_uses(config: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[RewardUse, ...]]:
    """The sets of a config: task → its rewards."""
    if not config:
        raise ConfigError("rewards: no reward set. Give at least `rewards: {default: [{name: …}]}`.")
    sets = {}
    for task, entries in config.items():
        if not entries:
            raise ConfigError(f"rewards.{task}: the set is empty, so every completion would be worth 0.")
        sets[task] = tuple(reward_use(entry, where=f"rewards.{task}[{i}]") for i, entry in enumerate(entries))
    return sets


def reward_use(entry: Mapping[str, Any], *, where: str) -> RewardUse:
    """One entry of a set. `where` is for messages."""
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"{where}: {unknown_name('key', key, KEYS)}")
    name, path = entry.get("name"), entry.get("path")
    if (name is None) == (path is None):
        raise ConfigError(f"{where}: a reward needs either name (from the catalogue) or path (module:function).")
    options = entry.get("options") or {}
    try:
        chosen = user_reward(path, options) if path is not None else reward(str(name), **options)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    timeout = float(entry.get("timeout_seconds", 5.0))
    if not timeout > 0:
        raise ConfigError(f"{where}: timeout_seconds is {timeout:g}; it must be above 0.")
    on_failure = entry.get("on_failure", "zero")
    if on_failure not in ("zero", "leave_out"):
        raise ConfigError(f"{where}: on_failure is {on_failure!r}; it must be 'zero' or 'leave_out'.")
    return RewardUse(
        name=str(name) if path is None else path.rpartition(":")[2],
        reward=chosen,
        weight=float(entry.get("weight", 1.0)),
        timeout_seconds=timeout,
        on_failure=on_failure,
        normalize=bool(entry.get("normalize", False)),
    )


def user_reward(path: str, options: Mapping[str, Any]) -> Reward:
    """The reward behind `module:name`. It runs in a process of its own, so that it can be killed."""
    target = _imported(path)
    if isinstance(target, Reward):
        return replace(target.with_options(options, name=path), in_process=False)
    if isinstance(target, type):
        _refuse_unknown(path, target, options)
        function = target(**options)
    elif is_dataclass(target):
        return replace(_described(path, target).with_options(options, name=path), in_process=False)
    elif options:
        _refuse_unknown(path, target, options)
        function = functools.partial(target, **options)
    else:
        function = target
    return _described(path, function)


def _described(path: str, function: Any) -> Reward:
    if not callable(function):
        raise ConfigError(f"{path} is a {type(function).__name__}; a reward is called with (completion, sample).")
    low, high = getattr(function, "bounds", (0.0, 1.0))
    return Reward(
        function=function,
        summary=(inspect.getdoc(function) or path).splitlines()[0],
        kind="accuracy",
        low=low,
        high=high,
        in_process=False,
        needs_frames="frames" in _parameters(function),
    )


def _imported(path: str) -> Any:
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"{path!r} is no importable path; write module:function, like my_pkg.rewards:area.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no module {error.name!r}. Install it, or name its folder in PYTHONPATH."
        ) from error
    except Exception as error:
        raise ConfigError(f"{path}: importing {module_name!r} failed with {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"{path}: {unknown_name('function of the module', name, functions)}")
    return getattr(module, name)


def _refuse_unknown(path: str, target: Any, options: Mapping[str, Any]) -> None:
    parameters = _parameters(target)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name in parameters if name not in ("completion", "sample", "frames", "self")]
    for key in options:
        if key not in known:
            raise ConfigError(unknown_name(f"option of {path!r}:", key, known))


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
