"""A room with coloured boxes, seen from several corners, with the six kinds of question that vsGRPO trains on
(arXiv:2504.00883; VSI-Bench, arXiv:2412.14171).

    object_counting               "How many red boxes are in the room?"                             number
    object_abs_distance           "How far apart are the middles of the red and the blue box …?"    metres
    object_size_estimation        "How long is the longest side of the red box …?"                  centimetres
    room_size_estimation          "How large is the floor …?"                                       square metres
    object_rel_distance           "Which of these is nearest to the red box?"                       options
    object_rel_direction          "Standing at the red box and facing the blue one, where is …?"    options

The floor has tiles of one metre, so that lengths can be read off. Numbers are scored by mean relative accuracy. The
boxes are convex and stand apart on the floor, so painting them from far to near is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from mmrl.data.builders.worlds.shapes import COLOURS
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source
from mmrl.types import Answer

if TYPE_CHECKING:
    from PIL.Image import Image

_FINER = 3
_WALL = 2.4  # metres
_TILES = ((226, 221, 210), (204, 197, 184))
_WALLS = ((233, 236, 240), (214, 219, 226))
_FACES = (0.82, 0.66, 1.0)  # brightness of sides along y, of sides along x, of tops
_SEEN = 0.0008  # of a view's pixels that a box must show in one of the views
_CLEARLY = 1.25  # how many times as far the second nearest is

Point = tuple[float, float, float]


class RoomOptions(WorldOptions):
    """Options of the builder `room`."""

    views: int = Field(2, ge=1, le=4, description="pictures of the room, from its corners")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    colour: str
    x: float  # its middle on the floor, metres
    y: float
    width: float  # along x
    depth: float  # along y
    height: float

    @property
    def name(self) -> str:
        return f"{self.colour} box"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    width: float  # metres, along x
    depth: float
    boxes: tuple[_Box, ...]


def build_room(options: RoomOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One room per question."""
    return generated(
        "room", lambda slot: _make(slot, options), seed=seed, splits=splits, hard_splits=options.hard_splits
    )


def _make(slot: Slot, options: RoomOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", list(_KINDS))
    question, answer, choices, room = _KINDS[kind](slot)
    corners = slot.random.sample(range(4), options.views)
    if not _all_seen(room, corners, options.size):
        raise DoesNotFit
    return Draft(
        key="",
        task="room_choice" if choices else "room_number",
        question=f"These are views of one room. Each floor tile is 1 m by 1 m. {question}",
        answer=answer,
        choices=choices,
        media=tuple(png(_view(room, corner, options.size)) for corner in corners),
        metadata={"question_type": kind, "room": [room.width, room.depth]},
    )


def _furnished(slot: Slot, colours: Sequence[str]) -> _Room:
    """A room with a box of each colour; none nearer than 20 cm to another."""
    dice = slot.random
    largest = 8 if slot.hard else 6
    width, depth = (dice.randint(6, 2 * largest) / 2 for _ in range(2))
    boxes: list[_Box] = []
    for colour in colours:
        for _ in range(40):
            w, d, h = (dice.randint(4, 14) / 10, dice.randint(4, 14) / 10, dice.randint(3, 18) / 10)
            x, y = dice.uniform(w / 2 + 0.05, width - w / 2 - 0.05), dice.uniform(d / 2 + 0.05, depth - d / 2 - 0.05)
            box = _Box(colour=colour, x=round(x, 2), y=round(y, 2), width=w, depth=d, height=h)
            if all(_apart(box, other) for other in boxes):
                boxes.append(box)
                break
        else:
            raise DoesNotFit
    return _Room(width=width, depth=depth, boxes=tuple(boxes))


def _apart(a: _Box, b: _Box) -> bool:
    gap = 0.2
    return abs(a.x - b.x) > (a.width + b.width) / 2 + gap or abs(a.y - b.y) > (a.depth + b.depth) / 2 + gap


Made = tuple[str, Answer, tuple[str, ...], _Room]  # question, answer, options, room


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


def _between(a: _Box, b: _Box) -> float:
    return math.hypot(a.x - b.x, a.y - b.y)


class _Camera:
    """A pinhole outside one corner, above head height, that looks at the middle of the floor and sees all of it."""

    def __init__(self, room: _Room, corner: int, side: float) -> None:
        fx, fy = corner % 2, corner // 2
        out = 0.35 * max(room.width, room.depth)
        self.x = -out if fx == 0 else room.width + out
        self.y = -out if fy == 0 else room.depth + out
        self.z = 1.6 + 0.65 * max(room.width, room.depth)
        dx, dy, dz = room.width / 2 - self.x, room.depth / 2 - self.y, 0.4 - self.z
        length = math.sqrt(dx * dx + dy * dy + dz * dz)
        self._ahead = (dx / length, dy / length, dz / length)
        flat = math.hypot(dx, dy)
        self._right = (dy / flat, -dx / flat, 0.0)
        (ax, ay, az), (rx, ry, _) = self._ahead, self._right
        self._up = (ry * az, -rx * az, rx * ay - ry * ax)
        corners = [(x, y, z) for x in (0.0, room.width) for y in (0.0, room.depth) for z in (0.0, _WALL)]
        seen = [self._flat(point) for point in corners]
        xs, ys = zip(*seen, strict=True)
        scale = 0.96 * side / max(max(xs) - min(xs), max(ys) - min(ys))
        self._scale, self._side = scale, side
        self._middle = ((max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2)

    def __call__(self, point: Point) -> tuple[float, float]:
        x, y = self._flat(point)
        half = self._side / 2
        return half + (x - self._middle[0]) * self._scale, half - (y - self._middle[1]) * self._scale

    def _flat(self, point: Point) -> tuple[float, float]:
        away = (point[0] - self.x, point[1] - self.y, point[2] - self.z)
        depth = _dot(away, self._ahead)
        return _dot(away, self._right) / depth, _dot(away, self._up) / depth


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _view(room: _Room, corner: int, size: int) -> Image:
    from PIL import Image, ImageDraw

    side = size * _FINER
    picture = Image.new("RGB", (side, side), (250, 250, 252))
    pen = ImageDraw.Draw(picture)
    camera = _Camera(room, corner, side)

    def face(points: Sequence[Point], fill: tuple[int, ...]) -> None:
        pen.polygon([camera(point) for point in points], fill=fill)

    for x in range(math.ceil(room.width)):
        for y in range(math.ceil(room.depth)):
            x2, y2 = min(x + 1.0, room.width), min(y + 1.0, room.depth)
            face([(x, y, 0), (x2, y, 0), (x2, y2, 0), (x, y2, 0)], _TILES[(x + y) % 2])
    far_x = room.width if camera.x < 0 else 0.0
    far_y = room.depth if camera.y < 0 else 0.0
    face([(far_x, 0, 0), (far_x, room.depth, 0), (far_x, room.depth, _WALL), (far_x, 0, _WALL)], _WALLS[0])
    face([(0, far_y, 0), (room.width, far_y, 0), (room.width, far_y, _WALL), (0, far_y, _WALL)], _WALLS[1])
    for box in _far_to_near(room.boxes, camera):
        colour = COLOURS[box.colour]
        for points, tone in zip(_faces(box, camera), _FACES, strict=True):
            face(points, tuple(round(value * tone) for value in colour))
    return picture.resize((size, size), Image.Resampling.BOX)


def _all_seen(room: _Room, corners: Sequence[int], size: int) -> bool:
    """Whether every box shows enough of itself in one view at least."""
    from PIL import Image, ImageDraw

    best = [0] * len(room.boxes)
    for corner in corners:
        picture = Image.new("L", (size, size), 255)
        pen = ImageDraw.Draw(picture)
        camera = _Camera(room, corner, size)
        for box in _far_to_near(room.boxes, camera):
            for points in _faces(box, camera):
                pen.polygon([camera(point) for point in points], fill=room.boxes.index(box))
        seen = picture.histogram()
        best = [max(pixels, seen[index]) for index, pixels in enumerate(best)]
    return min(best) >= _SEEN * size * size


def _faces(box: _Box, camera: _Camera) -> tuple[list[Point], list[Point], list[Point]]:
    """The three faces that the camera sees: along y, along x, and the top."""
    x1, x2 = box.x - box.width / 2, box.x + box.width / 2
    y1, y2, h = box.y - box.depth / 2, box.y + box.depth / 2, box.height
    near_x = x1 if camera.x < x1 else x2
    near_y = y1 if camera.y < y1 else y2
    return (
        [(near_x, y1, 0), (near_x, y2, 0), (near_x, y2, h), (near_x, y1, h)],
        [(x1, near_y, 0), (x2, near_y, 0), (x2, near_y, h), (x1, near_y, h)],
        [(x1, y1, h), (x2, y1, h), (x2, y2, h), (x1, y2, h)],
    )


def _far_to_near(boxes: Sequence[_Box], camera: _Camera) -> list[_Box]:
    """Of two boxes that stand apart along an axis, the one on the camera's side is nearer; cameras stand at corners,
    so there is always an order. Picks, again and again, a box that covers none of the others left.
    """

    def covers(a: _Box, b: _Box) -> bool:
        if abs(a.x - b.x) > (a.width + b.width) / 2:
            return (a.x < b.x) == (camera.x < b.x)
        return (a.y < b.y) == (camera.y < b.y)

    left, order = list(boxes), []
    while left:
        far = next((a for a in left if not any(covers(a, b) for b in left if b is not a)), left[0])
        left.remove(far)
        order.append(far)
    return order
