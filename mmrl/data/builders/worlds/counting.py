"""Counting things in a drawn scene: "How many red things are there?", "How many stars are there?".

The number is dealt, so each is equally often right whatever is asked for; things of other kinds lie between.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from mmrl.data.builders.worlds.shapes import COLOURS, SHAPES, draw, scatter
from mmrl.data.builders.worlds.world import Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source
from mmrl.types import Answer


class CountingOptions(WorldOptions):
    """Options of the builder `counting`."""

    most: int = Field(6, ge=2, le=12, description="the largest number to count")
    most_hard: int = Field(9, ge=2, le=15, description="the same in hard splits")


def build_counting(options: CountingOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One scene per question."""
    return generated(
        "counting", lambda slot: _make(slot, options), seed=seed, splits=splits, hard_splits=options.hard_splits
    )


def _make(slot: Slot, options: CountingOptions) -> Draft:
    dice = slot.random
    kind, slot = slot.deal_kind("kind", ("thing", "colour", "shape", "both"))
    count = slot.deal("count", range(1, (options.most_hard if slot.hard else options.most) + 1))
    colours = dice.sample(list(COLOURS), 4 if slot.hard else 3)
    shapes = dice.sample(SHAPES, 4 if slot.hard else 3)
    colour, shape = colours[0], shapes[0]
    others = [(s, c) for s in shapes for c in colours]
    if kind == "thing":
        named, wanted, others = "things", others, []
    elif kind == "colour":
        named = f"{colour} things"
        wanted, others = [(s, colour) for s in shapes], [(s, c) for s, c in others if c != colour]
    elif kind == "shape":
        named = _plural(shape)
        wanted, others = [(shape, c) for c in colours], [(s, c) for s, c in others if s != shape]
    else:
        named = f"{colour} {_plural(shape)}"
        wanted, others = [(shape, colour)], [pair for pair in others if pair != (shape, colour)]
    between = dice.randint(3, 6) if slot.hard else dice.randint(1, 4)
    names = [dice.choice(wanted) for _ in range(count)]
    names += [dice.choice(others) for _ in range(between if others else 0)]
    things = scatter(names, size=options.size, hard=slot.hard, dice=dice)
    return Draft(
        key="",
        task="count",
        question=f"How many {named} are there?",
        answer=Answer(type="number", value=count),
        media=(png(draw(things, size=options.size, hard=slot.hard, dice=dice)),),
        metadata={"kind": kind},
    )


def _plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")
