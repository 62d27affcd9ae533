"""From what a config says to an Algorithm: a catalogue name, or a base with some slots replaced.

    algorithm: apo
    algorithm: {base: grpo, divergence: {type: none}}
    algorithm: {base: grpo, surrogate: {clip_high: 0.28}, loss_mask: [{type: truncated}]}

Within a slot that holds one part, leaving out `type` keeps the base's part and changes the named hyper-parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.catalog import ALGORITHMS, PARTS
from mmrl.errors import ConfigError, nearest, unknown_name

_ACCEPTED: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
_WANTED = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a word"}


def build_algorithm(spec: str | Mapping[str, Any]) -> Algorithm:
    """The algorithm a config asks for. Raises ConfigError naming the slot or hyper-parameter that is wrong."""
    if isinstance(spec, str):
        return _named(spec)
    if "base" not in spec:
        raise ConfigError("algorithm: give a base, for example {base: grpo, divergence: {type: none}}.")
    base = _named(spec["base"])
    changes: dict[str, Any] = {}
    for slot, value in spec.items():
        if slot == "base":
            continue
        if slot not in PARTS:
            raise ConfigError(f"algorithm: {unknown_name('slot', slot, PARTS)}")
        current = getattr(base, slot)
        if isinstance(current, tuple):
            if not isinstance(value, list | tuple):
                raise ConfigError(f"algorithm.{slot}: holds a list of parts; write [{{type: …}}, …], or [] for none.")
            changes[slot] = tuple(_part(slot, item, None) for item in value)
        else:
            changes[slot] = _part(slot, value, current)
    if changes.get("divergence") == PARTS["divergence"]["none"]() and "reference" not in changes:
        changes["reference"] = PARTS["reference"]["none"]()  # nothing would ask it for anything
    return replace(base, **changes)


def _named(name: str) -> Algorithm:
    if name not in ALGORITHMS:
        raise ConfigError(f"algorithm: {unknown_name('algorithm', name, ALGORITHMS)}")
    return ALGORITHMS[name]


def _part(slot: str, value: Any, current: Any) -> Any:
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"algorithm.{slot}: expected {{type: …, hyper-parameter: value}}, got {value!r}.")
    options = {key: item for key, item in value.items() if key != "type"}
    if "type" not in value:
        if current is None:
            raise ConfigError(f"algorithm.{slot}: say which part, type: one of {', '.join(sorted(PARTS[slot]))}.")
        return replace(current, **_checked(slot, type(current), options))
    if value["type"] not in PARTS[slot]:
        raise ConfigError(f"algorithm.{slot}: {unknown_name('type', str(value['type']), PARTS[slot])}")
    kind = PARTS[slot][value["type"]]
    return kind(**_checked(slot, kind, options))


def _checked(slot: str, kind: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters with the types the part declares: YAML's 1 is a float's 1.0."""
    checked: dict[str, Any] = {}
    known = {field.name: field for field in fields(kind)}
    for key, value in options.items():
        if key not in known:
            guess = nearest(key, known)
            hint = f" Did you mean {guess!r}?" if guess else ""
            listed = ", ".join(known) or "none"
            raise ConfigError(
                f"algorithm.{slot}: {kind.__name__} has no hyper-parameter {key!r}.{hint} It has: {listed}."
            )
        declared = str(known[key].type)
        if isinstance(value, bool) != (declared == "bool") or not isinstance(value, _ACCEPTED[declared]):
            raise ConfigError(f"algorithm.{slot}.{key}: expected {_WANTED[declared]}, got {value!r}.")
        checked[key] = float(options[key]) if declared == "float" else value
    return checked
