"""Where is it? One box, several boxes, or a point, for things in a drawn scene.

    box      "Give the box of the red star."                       the one thing that fits; others share its parts
    boxes    "Give the boxes of all red things."                   one to four; a colour, a shape, or both
    point    "Point at the middle of the red star."                a point

In hard splits the one thing is also named by its place ("the second thing from the left") or by its size among two.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

from pydantic import Field

from mmrl.data.builders.worlds.shapes import COLOURS, SHAPES, Thing, draw, scatter
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source
from mmrl.types import Answer

_ORDINALS = ("first", "second", "third")
_APART = 0.04  # of the picture's side between neighbours that are told apart by their order


class GroundingOptions(WorldOptions):
    """Options of the builder `grounding`."""

    ask: Literal["box", "boxes", "point"] = Field("box", description="what is to be answered")


def build_grounding(options: GroundingOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One scene per question."""
    make = _make_boxes if options.ask == "boxes" else _make_one
    return generated(
        f"grounding {options.ask}",
        lambda slot: make(slot, options),
        seed=seed,
        splits=splits,
        hard_splits=options.hard_splits,
    )


def _make_one(slot: Slot, options: GroundingOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", ("name", "order", "size") if slot.hard else ("name",))
    phrase, target, things = {"name": _by_name, "order": _by_order, "size": _by_size}[kind](slot, options.size)
    if options.ask == "box":
        question, answer = f"Give the box of {phrase}.", Answer(type="box", value=target.box)
    else:
        x1, y1, x2, y2 = target.box
        question = f"Point at the middle of {phrase}."
        answer = Answer(type="point", value=(round((x1 + x2) / 2, 1), round((y1 + y2) / 2, 1)))
    return Draft(
        key="",
        task=options.ask,
        question=question,
        answer=answer,
        media=(png(draw(things, size=options.size, hard=slot.hard, dice=slot.random)),),
        metadata={"kind": kind, "box": target.box},
    )


def _make_boxes(slot: Slot, options: GroundingOptions) -> Draft:
    dice = slot.random
    kind, slot = slot.deal_kind("kind", ("colour", "shape", "both"))
    count = slot.deal("count", range(2, 7) if slot.hard else range(1, 5))
    shapes, colours = dice.sample(SHAPES, 3), dice.sample(list(COLOURS), 3)
    shape, colour = shapes[0], colours[0]
    fits = {
        "colour": lambda pair: pair[1] == colour,
        "shape": lambda pair: pair[0] == shape,
        "both": lambda pair: pair == (shape, colour),
    }[kind]
    plural = shape + ("es" if shape == "cross" else "s")
    named = {"colour": f"{colour} things", "shape": plural, "both": f"{colour} {plural}"}[kind]
    pairs = [(s, c) for s in shapes for c in colours]
    wanted, others = [p for p in pairs if fits(p)], [p for p in pairs if not fits(p)]
    names = [dice.choice(wanted) for _ in range(count)]
    names += [dice.choice(others) for _ in range(dice.randint(3, 5) if slot.hard else dice.randint(2, 3))]
    things = scatter(names, size=options.size, hard=slot.hard, dice=dice)
    found = sorted(things[:count], key=lambda thing: (thing.x, thing.y))
    return Draft(
        key="",
        task="boxes",
        question=f"Give the boxes of all {named}.",
        answer=Answer(type="boxes", value=tuple(thing.box for thing in found)),
        media=(png(draw(things, size=options.size, hard=slot.hard, dice=dice)),),
        metadata={"kind": kind, "labels": [thing.name for thing in found]},
    )


Found = tuple[str, Thing, list[Thing]]  # how it is named, the thing, the scene


def _by_name(slot: Slot, size: int) -> Found:
    """Others share its colour, or its shape; none both."""
    dice = slot.random
    shape, colour = dice.choice(SHAPES), dice.choice(list(COLOURS))
    rest_shapes = [other for other in SHAPES if other != shape]
    rest_colours = [other for other in COLOURS if other != colour]
    names = [(shape, colour), (shape, dice.choice(rest_colours)), (dice.choice(rest_shapes), colour)]
    extra = dice.randint(3, 5) if slot.hard else dice.randint(0, 2)
    names += [(dice.choice(rest_shapes), dice.choice(rest_colours)) for _ in range(extra)]
    things = scatter(names, size=size, hard=slot.hard, dice=dice)
    return f"the {colour} {shape}", things[0], things


def _by_order(slot: Slot, size: int) -> Found:
    dice = slot.random
    names = [(dice.choice(SHAPES), dice.choice(list(COLOURS))) for _ in range(dice.randint(4, 6))]
    things = scatter(names, size=size, hard=slot.hard, dice=dice)
    place = dice.randrange(len(_ORDINALS))
    side, ordered = dice.choice(
        (
            ("left", sorted(things, key=lambda t: t.x)),
            ("right", sorted(things, key=lambda t: -t.x)),
        )
    )
    xs = [thing.x for thing in ordered]
    if min(abs(a - b) for a, b in pairwise(xs)) < _APART * size:
        raise DoesNotFit
    return f"the {_ORDINALS[place]} thing from the {side}", ordered[place], things


def _by_size(slot: Slot, size: int) -> Found:
    dice = slot.random
    shape, colour = dice.choice(SHAPES), dice.choice(list(COLOURS))
    rest_colours = [other for other in COLOURS if other != colour]
    rest = dice.randint(2, 4)
    names = [(shape, colour)] * 2 + [(dice.choice(SHAPES), dice.choice(rest_colours)) for _ in range(rest)]
    radii = [0.06, 0.1, *(dice.uniform(0.055, 0.1) for _ in range(rest))]
    things = scatter(names, size=size, hard=slot.hard, dice=dice, radii=radii)
    word, target = dice.choice((("smaller", things[0]), ("larger", things[1])))
    return f"the {word} {colour} {shape}", target, things
