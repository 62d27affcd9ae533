"""One thing, or several alike, on a plain ground: "What colour is it?", "Where is it?", "How many are there?".

    colour   eight options        place    nine options, from "top left" to "bottom right"
    shape    six options          number   a number: so many things, alike in shape, colour and size

The easiest world. Its options stand in the same order in every question: a letter means one thing, so nothing has to be
looked up among them. A model of a million parameters learns colours and shapes from some sixty pictures, which makes it
the world to try a recipe of training with on a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field

from mmrl.data.builders.worlds.shapes import COLOURS, SHAPES, Thing, draw, scatter
from mmrl.data.builders.worlds.world import Slot, WorldOptions, generated, in_one_order, png
from mmrl.data.source import Draft, Source
from mmrl.types import Answer

Kind = Literal["colour", "shape", "place", "number"]

_PLACES = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
# Radii as shares of the picture's side, plain and hard: of one thing, whose place is not asked for; of others.
_LARGE, _LARGE_HARD = (0.26, 0.4), (0.1, 0.16)
_SMALL, _SMALL_HARD = 0.13, 0.06
_GAP = 0.03  # between things that are to be counted: nearer ones would run into each other at 56 pixels


class SignOptions(WorldOptions):
    """Options of the builder `signs`."""

    size: int = Field(56, ge=56, le=2048, description="side of the pictures, pixels; 56 is 4 tokens of 28×28")
    kinds: tuple[Kind, ...] = Field(
        ("colour", "shape", "place", "number"), min_length=1, description="what is asked for, equally often"
    )
    most: int = Field(5, ge=2, le=8, description="the largest number")


def build_signs(options: SignOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One picture per question."""
    return generated(
        "signs", lambda slot: _make(slot, options), seed=seed, splits=splits, hard_splits=options.hard_splits
    )


def _make(slot: Slot, options: SignOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", options.kinds)
    question, answer, choices, things = _KINDS[kind](slot, options)
    return Draft(
        key="",
        task=kind,
        question=question,
        choices=choices,
        answer=answer,
        media=(png(draw(things, size=options.size, hard=slot.hard, dice=slot.random)),),
        metadata={"kind": kind},
    )


Made = tuple[str, Answer, tuple[str, ...], list[Thing]]  # question, answer, options, scene


def _colour(slot: Slot, options: SignOptions) -> Made:
    right = slot.deal("colour", list(COLOURS))
    choices, answer = in_one_order(right, list(COLOURS))
    return "What colour is it?", answer, choices, _one(slot, options, slot.random.choice(SHAPES), right)


def _shape(slot: Slot, options: SignOptions) -> Made:
    right = slot.deal("shape", SHAPES)
    choices, answer = in_one_order(right, SHAPES)
    return "Which shape is it?", answer, choices, _one(slot, options, right, _ink(slot))


def _place(slot: Slot, options: SignOptions) -> Made:
    """Its centre lies in the middle third of one of nine fields, so that there is no doubt which."""
    dice = slot.random
    right = slot.deal("place", _PLACES)
    choices, answer = in_one_order(right, _PLACES)
    row, column = divmod(_PLACES.index(right), 3)
    radius = (_SMALL_HARD if slot.hard else _SMALL) * options.size
    x, y = ((at + dice.uniform(0.35, 0.65)) / 3 * options.size for at in (column, row))
    shape, colour = dice.choice(SHAPES), _ink(slot)
    return "Where is it?", answer, choices, [Thing(shape=shape, colour=colour, x=x, y=y, radius=radius)]


def _number(slot: Slot, options: SignOptions) -> Made:
    dice = slot.random
    right = slot.deal("number", range(1, options.most + 1))
    alike = (dice.choice(SHAPES), _ink(slot))
    radius = _SMALL_HARD if slot.hard else _SMALL
    room = [radius + _GAP / 2] * right
    things = scatter([alike] * right, size=options.size, hard=slot.hard, dice=dice, radii=room)
    things = [replace(thing, radius=radius * options.size) for thing in things]
    return "How many are there?", Answer(type="number", value=right), (), things


_KINDS: Mapping[Kind, Callable[[Slot, SignOptions], Made]] = {
    "colour": _colour,
    "shape": _shape,
    "place": _place,
    "number": _number,
}


def _ink(slot: Slot) -> str:
    """Where the colour is not asked for it is black; in hard splits it is any."""
    return slot.random.choice(list(COLOURS)) if slot.hard else "black"


def _one(slot: Slot, options: SignOptions, shape: str, colour: str) -> list[Thing]:
    radius = slot.random.uniform(*(_LARGE_HARD if slot.hard else _LARGE))
    return scatter([(shape, colour)], size=options.size, hard=slot.hard, dice=slot.random, radii=[radius])
