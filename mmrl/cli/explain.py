"""`mmrl explain`: an algorithm slot by slot, or what tells two apart; derived from the dataclasses themselves."""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mmrl.algorithms.algorithm import Algorithm

LABELS = ("name", "title", "paper", "summary")  # fields that describe the algorithm; all others are slots


def explain(
    algorithm: Annotated[str, typer.Argument(metavar="ALGORITHM", help="A name of `mmrl list algorithms`.")],
    against: Annotated[
        str | None, typer.Option("--against", metavar="BASE", help="Show only what differs from this one.")
    ] = None,
) -> None:
    """Show what an algorithm is made of.

    Each slot with its part and hyper-parameters, as a config would write them.

    \b
    Examples:
      mmrl explain grpo
      mmrl explain dapo --against grpo
    """
    from mmrl.cli.console import print_table

    chosen = _named(algorithm)
    slots = slot_texts(chosen)
    if against is None:
        print(f"{_description(chosen)}\n")
        print_table(("slot", "part and hyper-parameters"), list(slots.items()))
        return
    base = _named(against)
    others = slot_texts(base)
    print(f"{chosen.title} (arXiv:{chosen.paper}) against {base.title}: {chosen.summary}\n")
    different = [(slot, others[slot], slots[slot]) for slot in slots if slots[slot] != others[slot]]
    if different:
        print_table(("slot", base.name, chosen.name), different)
    else:
        print(f"Every slot is as in {base.name}.")


def slot_texts(algorithm: Algorithm) -> dict[str, str]:
    """Slot → its part or parts as text."""
    return {
        slot.name: _slot_text(slot.name, getattr(algorithm, slot.name))
        for slot in fields(algorithm)
        if slot.name not in LABELS
    }


def _slot_text(slot: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(_part_text(slot, part) for part in value) or "–"
    return _part_text(slot, value)


def _part_text(slot: str, part: Any) -> str:
    from mmrl.algorithms.catalog import PARTS

    name = next((name for name, kind in PARTS[slot].items() if kind is type(part)), type(part).__name__)
    settings = ", ".join(f"{field.name}: {getattr(part, field.name)}" for field in fields(part))
    return f"{name} {{{settings}}}" if settings else name


def _description(algorithm: Algorithm) -> str:
    """What the algorithm's own file says of it, with the formula; each published variant has one of its name."""
    module = f"mmrl.algorithms.{algorithm.name}"
    found = inspect.getdoc(import_module(module)) if find_spec(module) else None
    return found or f"{algorithm.title}: arXiv:{algorithm.paper}\n{algorithm.summary}"


def _named(name: str) -> Algorithm:
    from mmrl.algorithms.catalog import ALGORITHMS
    from mmrl.errors import ConfigError, unknown_name

    if name not in ALGORITHMS:
        raise ConfigError(unknown_name("algorithm", name, ALGORITHMS))
    return ALGORITHMS[name]
