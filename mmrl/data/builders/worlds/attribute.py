"""Colour, shape, size and place of things in a drawn scene, with options: "What colour is the largest thing?".

The wrong colours are those of other things in the scene as far as there are any, so that seeing *a* colour is not
enough. "Is there a red star?" is as often no as yes, and where it is no there are red things and stars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mmrl.data.builders.worlds.shapes import COLOURS, SHAPES, Thing, draw, scatter
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source

_OPTIONS = 4
_CLEARLY = 1.35  # times as large, so that there is no doubt
_APART = 0.1  # of the picture's side between the outermost thing and the next


class AttributeOptions(WorldOptions):
    """Options of the builder `attribute`."""


def build_attribute(options: AttributeOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One scene per question."""
    return generated(
        "attribute", lambda slot: _make(slot, options), seed=seed, splits=splits, hard_splits=options.hard_splits
    )


def _make(slot: Slot, options: AttributeOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", list(_KINDS))
    question, right, wrong, things = _KINDS[kind](slot, options.size)
    choices, answer = slot.options(right, wrong)
    slot.random.shuffle(things)
    return Draft(
        key="",
        task="attribute",
        question=question,
        choices=choices,
        answer=answer,
        media=(png(draw(things, size=options.size, hard=slot.hard, dice=slot.random)),),
        metadata={"kind": kind},
    )


Made = tuple[str, str, list[str], list[Thing]]  # question, right option, wrong options, scene


def _number(slot: Slot) -> int:
    return slot.random.randint(6, 8) if slot.hard else slot.random.randint(4, 5)


def _colour_of_shape(slot: Slot, size: int) -> Made:
    dice = slot.random
    right = slot.deal("colour", list(COLOURS))
    shape = dice.choice(SHAPES)
    rest = [other for other in SHAPES if other != shape]
    wrong = _others(slot, right, list(COLOURS))
    names = [(shape, right), *((dice.choice(rest), colour) for colour in _cycle(wrong, _number(slot) - 1))]
    things = scatter(names, size=size, hard=slot.hard, dice=dice)
    return f"What colour is the {shape}?", right, wrong, things


def _shape_of_colour(slot: Slot, size: int) -> Made:
    dice = slot.random
    right = slot.deal("shape", SHAPES)
    colour = dice.choice(list(COLOURS))
    rest = [other for other in COLOURS if other != colour]
    wrong = _others(slot, right, SHAPES)
    names = [(right, colour), *((shape, dice.choice(rest)) for shape in _cycle(wrong, _number(slot) - 1))]
    things = scatter(names, size=size, hard=slot.hard, dice=dice)
    return f"Which shape is {colour}?", right, wrong, things


def _colour_of_largest(slot: Slot, size: int) -> Made:
    dice = slot.random
    right = slot.deal("colour", list(COLOURS))
    wrong = _others(slot, right, list(COLOURS))
    rest = _number(slot) - 1
    names = [(dice.choice(SHAPES), right), *((dice.choice(SHAPES), colour) for colour in _cycle(wrong, rest))]
    radius = 0.11 if slot.hard else 0.14
    radii = [radius, *(dice.uniform(0.5, 1.0) * radius / _CLEARLY for _ in range(rest))]
    things = scatter(names, size=size, hard=slot.hard, dice=dice, radii=radii)
    return "What colour is the largest thing?", right, wrong, things


def _colour_of_outermost(slot: Slot, size: int) -> Made:
    dice = slot.random
    right = slot.deal("colour", list(COLOURS))
    wrong = _others(slot, right, list(COLOURS))
    names = [(dice.choice(SHAPES), right), *((dice.choice(SHAPES), c) for c in _cycle(wrong, _number(slot) - 1))]
    things = scatter(names, size=size, hard=slot.hard, dice=dice)
    word, key = dice.choice(_SIDES)
    first, *rest = sorted(things, key=key)
    if first.colour != right or key(rest[0]) - key(first) < _APART * size:
        raise DoesNotFit
    return f"What colour is the {word} thing?", right, wrong, things


def _existence(slot: Slot, size: int) -> Made:
    dice = slot.random
    right = slot.deal("existence", ("yes", "no"))
    shape, colour = dice.choice(SHAPES), dice.choice(list(COLOURS))
    rest_shapes = [other for other in SHAPES if other != shape]
    rest_colours = [other for other in COLOURS if other != colour]
    names = [(dice.choice(rest_shapes), colour), (shape, dice.choice(rest_colours))]
    extra = (shape, colour) if right == "yes" else (dice.choice(rest_shapes), dice.choice(rest_colours))
    names.append(extra)
    names += [(dice.choice(rest_shapes), dice.choice(rest_colours)) for _ in range(_number(slot) - 3)]
    things = scatter(names, size=size, hard=slot.hard, dice=dice)
    article = "an" if colour[0] in "aeiou" else "a"
    return f"Is there {article} {colour} {shape}?", right, ["no" if right == "yes" else "yes"], things


_SIDES: tuple[tuple[str, Callable[[Thing], float]], ...] = (
    ("leftmost", lambda thing: thing.x),
    ("rightmost", lambda thing: -thing.x),
    ("topmost", lambda thing: thing.y),
    ("lowest", lambda thing: -thing.y),
)
_KINDS: Mapping[str, Callable[[Slot, int], Made]] = {
    "colour of a shape": _colour_of_shape,
    "shape of a colour": _shape_of_colour,
    "colour of the largest": _colour_of_largest,
    "colour of the outermost": _colour_of_outermost,
    "existence": _existence,
}


def _others(slot: Slot, right: str, known: Sequence[str]) -> list[str]:
    return slot.random.sample([name for name in known if name != right], _OPTIONS - 1)


def _cycle(values: Sequence[str], count: int) -> list[str]:
    return [values[index % len(values)] for index in range(count)]
