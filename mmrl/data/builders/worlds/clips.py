"""Short clips of moving, appearing and blinking shapes, as real mp4 files.

    direction   "In which direction does the red star move?"                    options
    order       "In which order do these appear? Name all letters, …"           letters in order
    first       "Which of these appears first?" (or last)                       options
    span        "From when to when is the blue circle to be seen?"              seconds
    blinks      "How often does the green cross light up?"                      a number
    change      "Which colour is the star at the end?"                          options

Everything is to be seen for half a second at least, so that two frames a second show it. In hard splits clips are
longer, other things move as well, and there are more events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrl.data.builders.worlds.mp4 import mp4, pictures_digest
from mmrl.data.builders.worlds.shapes import COLOURS, SHAPES, Thing, ground, paint, scatter
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, in_one_order
from mmrl.data.source import Draft, Source
from mmrl.types import LETTERS, Answer

if TYPE_CHECKING:
    from PIL.Image import Image

_FPS = 8
_SEEN_FPS = 2.0  # frames a second that the model is shown
_HALF = _FPS // 2  # frames in half a second: all events begin and end on these
_DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
_DIAGONALS = {"up and right": (1, -1), "up and left": (-1, -1), "down and right": (1, 1), "down and left": (-1, 1)}


Kind = Literal["direction", "order", "first", "span", "blinks", "change"]


class ClipOptions(WorldOptions):
    """Options of the builder `clips`."""

    size: int = Field(84, ge=56, le=1024, multiple_of=2, description="side of the clips, pixels")
    seconds: int = Field(4, ge=3, le=20, description="length of a clip")
    seconds_hard: int = Field(6, ge=4, le=40, description="the same in hard splits")
    kinds: tuple[Kind, ...] = Field(
        ("direction", "order", "first", "span", "blinks", "change"),
        min_length=1,
        description="what is asked for, equally often",
    )
    others: int | None = Field(
        None,
        ge=0,
        le=5,
        description="direction: things beside the one asked for; null: 2, in hard splits 3",
    )
    one_order: bool = Field(
        False,
        description="direction, change: every direction or colour is an option, in one order; easier for tiny models",
    )


Frames = list[list[Thing]]  # what is to be seen in each
Made = tuple[str, str, Answer, tuple[str, ...], Frames]  # task, question, answer, options, frames


def build_clips(options: ClipOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One clip per question."""
    return generated(
        "clips",
        lambda slot: _make(slot, options),
        seed=seed,
        splits=splits,
        hard_splits=options.hard_splits,
        packages=("pillow", "av"),
    )


def _make(slot: Slot, options: ClipOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", options.kinds)
    count = _FPS * (options.seconds_hard if slot.hard else options.seconds)
    task, question, answer, choices, frames = _KINDS[kind](slot, options, count)
    pictures = _pictures(frames, slot, options.size)
    return Draft(
        key="",
        task=task,
        question=question,
        answer=answer,
        choices=choices,
        media=(mp4(pictures, fps=_FPS, sampled_fps=_SEEN_FPS),),
        metadata={"kind": kind, "pictures_sha256": pictures_digest(pictures)},
    )


def _pictures(frames: Frames, slot: Slot, size: int) -> list[Image]:
    behind = ground(size=size, hard=slot.hard, dice=slot.random)
    made: list[Image] = []
    for index, things in enumerate(frames):
        same = index > 0 and things == frames[index - 1]
        made.append(made[-1] if same else paint(behind, things, shades=[1.0] * len(things)))
    return made


def _direction(slot: Slot, options: ClipOptions, count: int) -> Made:
    dice = slot.random
    known = {**_DIRECTIONS, **_DIAGONALS} if slot.hard else _DIRECTIONS
    right = slot.deal("direction", list(known))
    beside = (3 if slot.hard else 2) if options.others is None else options.others
    target, *others = _different(slot, options.size, 1 + beside)
    wrong = dice.sample([name for name in known if name != right], 3)
    moved = [_moving(target, known[right], options.size, count, dice.uniform(0.5, 0.75))]
    for other, name in zip(others, [*wrong, *wrong], strict=False):
        steps = known[name] if slot.hard else (0, 0)
        moved.append(_moving(other, steps, options.size, count, dice.uniform(0.3, 0.6)))
    if options.one_order:
        choices, answer = in_one_order(right, list(known))
    else:
        choices, answer = slot.options(right, wrong)
    frames = [list(things) for things in zip(*moved[::-1], strict=True)]  # the one asked for lies above the others
    return "direction", f"In which direction does the {target.name} move?", answer, choices, frames


def _moving(thing: Thing, steps: tuple[int, int], size: int, count: int, share: float) -> list[Thing]:
    """A thing on its straight way over `share` of the picture, clipped to stay inside; its first place is moved so
    that there is room.
    """
    way = share * size
    low, high = thing.radius + 1, size - thing.radius - 1

    def start(place: float, step: int) -> float:
        if step == 0:
            return place
        if high - low < way:
            raise DoesNotFit
        return min(place, high - way) if step > 0 else max(place, low + way)

    x, y = start(thing.x, steps[0]), start(thing.y, steps[1])
    return [
        replace(thing, x=x + steps[0] * way * i / (count - 1), y=y + steps[1] * way * i / (count - 1))
        for i in range(count)
    ]


def _appearing(slot: Slot, size: int, count: int, events: int) -> tuple[list[Thing], Frames]:
    """Things in the order in which they come, and the frames: each comes at a time of its own and stays."""
    things = _different(slot, size, events)
    halves = sorted(slot.random.sample(range(1, count // _HALF - 1), events))
    frames = [[t for t, half in zip(things, halves, strict=True) if i >= half * _HALF] for i in range(count)]
    return things, frames


def _order(slot: Slot, options: ClipOptions, count: int) -> Made:
    things, frames = _appearing(slot, options.size, count, 4 if slot.hard else 3)
    shown = slot.random.sample(things, len(things))
    order = tuple(LETTERS[shown.index(thing)] for thing in things)
    question = "In which order do these appear? Name all letters, the one that appears first in front."
    return "order", question, Answer(type="choices", value=order), tuple(t.name for t in shown), frames


def _first(slot: Slot, options: ClipOptions, count: int) -> Made:
    things, frames = _appearing(slot, options.size, count, 5 if slot.hard else 4)
    word, right = slot.random.choice((("first", things[0]), ("last", things[-1])))
    choices, answer = slot.options(right.name, slot.random.sample([t.name for t in things if t != right], 3))
    return "first", f"Which of these appears {word}?", answer, choices, frames


def _span(slot: Slot, options: ClipOptions, count: int) -> Made:
    dice = slot.random
    target, *others = _different(slot, options.size, 4 if slot.hard else 2)
    halves = count // _HALF
    length = slot.deal("length", range(2, halves - 2))
    begin = dice.randint(0, halves - length)
    spans = {target.name: (begin, begin + length)}
    for other in others:
        ends = sorted(dice.sample(range(halves + 1), 2)) if slot.hard else (0, halves)
        spans[other.name] = (ends[0], ends[1])
    frames = [
        [t for t in (target, *others) if spans[t.name][0] * _HALF <= i < spans[t.name][1] * _HALF] for i in range(count)
    ]
    seconds = (begin * _HALF / _FPS, (begin + length) * _HALF / _FPS)
    question = f"From when to when is the {target.name} to be seen? Answer in seconds."
    return "span", question, Answer(type="span", value=seconds), (), frames


def _blinks(slot: Slot, options: ClipOptions, count: int) -> Made:
    """Each time it is there for half a second and gone for half a second."""
    dice = slot.random
    target, *others = _different(slot, options.size, 3 if slot.hard else 2)
    places = count // (2 * _HALF)
    times = slot.deal("times", range(1, places + 1))
    lit = set(dice.sample(range(places), times))
    other_lit = set(dice.sample(range(places), dice.randint(1, places))) if slot.hard else set(range(places))
    frames = []
    for i in range(count):
        place, off = divmod(i // _HALF, 2)
        steady = [t for t in others if not slot.hard or (place in other_lit and not off)]
        frames.append(([target] if place in lit and not off else []) + steady)
    question = f"How often does the {target.name} light up?"
    return "blinks", question, Answer(type="number", value=times), (), frames


def _change(slot: Slot, options: ClipOptions, count: int) -> Made:
    """One large thing that takes several colours one after the other. All but the last are among the wrong options."""
    dice = slot.random
    right = slot.deal("colour", list(COLOURS))
    before = dice.sample([colour for colour in COLOURS if colour != right], 3 if slot.hard else 2)
    shape = dice.choice(SHAPES)
    radius = dice.uniform(0.1, 0.16) if slot.hard else dice.uniform(0.26, 0.4)
    (thing,) = scatter([(shape, right)], size=options.size, hard=slot.hard, dice=dice, radii=[radius])
    ends = sorted(dice.sample(range(1, count // _HALF), len(before)))
    frames = [[replace(thing, colour=[*before, right][sum(end * _HALF <= i for end in ends)])] for i in range(count)]
    if options.one_order:
        choices, answer = in_one_order(right, list(COLOURS))
    else:
        rest = [colour for colour in COLOURS if colour not in (right, *before)]
        choices, answer = slot.options(right, [*before, *dice.sample(rest, 3 - len(before))])
    return "change", f"Which colour is the {shape} at the end?", answer, choices, frames


_KINDS: Mapping[Kind, Callable[[Slot, ClipOptions, int], Made]] = {
    "direction": _direction,
    "order": _order,
    "first": _first,
    "span": _span,
    "blinks": _blinks,
    "change": _change,
}


def _different(slot: Slot, size: int, count: int) -> list[Thing]:
    """Things no two of which share shape and colour."""
    pairs = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    things: Sequence[Thing] = scatter(slot.random.sample(pairs, count), size=size, hard=False, dice=slot.random)
    return [replace(thing, radius=math.floor(thing.radius * 10) / 10) for thing in things]
