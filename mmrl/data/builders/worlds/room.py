"""A room with coloured boxes, seen from several corners, with the six kinds of question that vsGRPO trains on
(arXiv:2504.00883; VSI-Bench, arXiv:2412.14171).

    object_counting               "How many red boxes are in the room?"                             number
    object_abs_distance           "How far apart are the middles of the red and the blue box …?"    metres
    object_size_estimation        "How long is the longest side of the red box …?"                  centimetres
    room_size_estimation          "How large is the floor …?"                                       square metres
    object_rel_distance           "Which of these is nearest to the red box?"                       options
    object_rel_direction          "Standing at the red box and facing the blue one, where is …?"    options

The floor has tiles of one metre, so that lengths can be read off. Numbers are scored by mean relative accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from mmrl.data.builders.worlds.room_scene import Box, Room, all_seen, view_of
from mmrl.data.builders.worlds.shapes import COLOURS
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source
from mmrl.types import Answer

_CLEARLY = 1.25  # how many times as far the second nearest is


class RoomOptions(WorldOptions):
    """Options of the builder `room`."""

    views: int = Field(2, ge=1, le=4, description="pictures of the room, from its corners")


def build_room(options: RoomOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One room per question."""
    return generated(
        "room", lambda slot: _make(slot, options), seed=seed, splits=splits, hard_splits=options.hard_splits
    )


def _make(slot: Slot, options: RoomOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", list(_KINDS))
    question, answer, choices, room = _KINDS[kind](slot)
    corners = slot.random.sample(range(4), options.views)
    if not all_seen(room, corners, options.size):
        raise DoesNotFit
    return Draft(
        key="",
        task="room_choice" if choices else "room_number",
        question=f"These are views of one room. Each floor tile is 1 m by 1 m. {question}",
        answer=answer,
        choices=choices,
        media=tuple(png(view_of(room, corner, options.size)) for corner in corners),
        metadata={"question_type": kind, "room": [room.width, room.depth]},
    )


def _furnished(slot: Slot, colours: Sequence[str]) -> Room:
    """A room with a box of each colour; none nearer than 20 cm to another."""
    dice = slot.random
    largest = 8 if slot.hard else 6
    width, depth = (dice.randint(6, 2 * largest) / 2 for _ in range(2))
    boxes: list[Box] = []
    for colour in colours:
        for _ in range(40):
            w, d, h = (dice.randint(4, 14) / 10, dice.randint(4, 14) / 10, dice.randint(3, 18) / 10)
            x, y = dice.uniform(w / 2 + 0.05, width - w / 2 - 0.05), dice.uniform(d / 2 + 0.05, depth - d / 2 - 0.05)
            box = Box(colour=colour, x=round(x, 2), y=round(y, 2), width=w, depth=d, height=h)
            if all(_apart(box, other) for other in boxes):
                boxes.append(box)
                break
        else:
            raise DoesNotFit
    return Room(width=width, depth=depth, boxes=tuple(boxes))


def _apart(a: Box, b: Box) -> bool:
    gap = 0.2
    return abs(a.x - b.x) > (a.width + b.width) / 2 + gap or abs(a.y - b.y) > (a.depth + b.depth) / 2 + gap


Made = tuple[str, Answer, tuple[str, ...], Room]  # question, answer, options, room


def _colours(slot: Slot) -> list[str]:
    return slot.random.sample(list(COLOURS), slot.random.randint(5, 6) if slot.hard else 4)


def _counting(slot: Slot) -> Made:
    dice = slot.random
    count = slot.deal("count", range(1, 6) if slot.hard else range(1, 5))
    colour, *others = dice.sample(list(COLOURS), 3)
    room = _furnished(slot, [colour] * count + [dice.choice(others) for _ in range(dice.randint(1, 3))])
    return f"How many {colour} boxes are in the room?", Answer(type="number", value=count), (), room


def _distance(slot: Slot) -> Made:
    room = _furnished(slot, _colours(slot))
    a, b = slot.random.sample(room.boxes, 2)
    question = f"How far apart are the middles of the {a.name} and the {b.name} on the floor, in metres?"
    return question, Answer(type="number", value=round(_between(a, b), 1), unit="m"), (), room


def _longest_side(slot: Slot) -> Made:
    room = _furnished(slot, _colours(slot))
    box = slot.random.choice(room.boxes)
    longest = round(100 * max(box.width, box.depth, box.height))
    question = f"How long is the longest side of the {box.name} (width, depth or height), in centimetres?"
    return question, Answer(type="number", value=longest, unit="cm"), (), room


def _room_size(slot: Slot) -> Made:
    room = _furnished(slot, _colours(slot))
    area = round(room.width * room.depth, 2)
    return "How large is the floor, in square metres?", Answer(type="number", value=area, unit="m²"), (), room


def _nearest(slot: Slot) -> Made:
    room = _furnished(slot, slot.random.sample(list(COLOURS), 5))
    anchor, *others = room.boxes
    first, second, *_ = sorted(others, key=lambda box: _between(anchor, box))
    if _between(anchor, second) < _CLEARLY * _between(anchor, first):
        raise DoesNotFit
    choices, answer = slot.options(first.name, [box.name for box in others if box != first])
    question = f"Which of these is nearest to the {anchor.name}, from middle to middle on the floor?"
    return question, answer, choices, room


def _direction(slot: Slot) -> Made:
    """Seen from above, x to the right and y away: a turn to the left has a positive cross product."""
    right = slot.deal("direction", list(_QUARTERS if slot.hard else _SIDES))
    room = _furnished(slot, _colours(slot))
    here, facing, target = slot.random.sample(room.boxes, 3)
    ahead = (facing.x - here.x, facing.y - here.y)
    there = (target.x - here.x, target.y - here.y)
    if min(math.hypot(*ahead), math.hypot(*there)) < 0.8:
        raise DoesNotFit
    cross, dot = ahead[0] * there[1] - ahead[1] * there[0], ahead[0] * there[0] + ahead[1] * there[1]
    angle = math.degrees(math.atan2(cross, dot))  # 0: ahead, 90: left, ±180: behind, −90: right
    middle = (_QUARTERS if slot.hard else _SIDES)[right]
    off = abs((angle - middle + 180) % 360 - 180)
    if off > 33:  # of 45 or 60 to either side: no doubt at the edges
        raise DoesNotFit
    known = list(_QUARTERS if slot.hard else _SIDES)
    choices, answer = slot.options(right, [name for name in known if name != right])
    question = f"I stand at the {here.name} and face the {facing.name}. Where is the {target.name} from me?"
    return question, answer, choices, room


_SIDES = {"to my left": 90.0, "to my right": -90.0, "behind me": 180.0}
_QUARTERS = {"front-left": 45.0, "front-right": -45.0, "back-left": 135.0, "back-right": -135.0}
_KINDS: Mapping[str, Callable[[Slot], Made]] = {
    "object_counting": _counting,
    "object_abs_distance": _distance,
    "object_size_estimation": _longest_side,
    "room_size_estimation": _room_size,
    "object_rel_distance": _nearest,
    "object_rel_direction": _direction,
}


def _between(a: Box, b: Box) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)
