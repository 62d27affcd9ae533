"""A room with boxes, and how it looks from its corners.

The boxes are convex and stand apart on the floor, so painting them from far to near is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmrl.data.builders.worlds.shapes import COLOURS

if TYPE_CHECKING:
    from PIL.Image import Image

_FINER = 3
_WALL = 2.4  # metres
_TILES = ((226, 221, 210), (204, 197, 184))
_WALLS = ((233, 236, 240), (214, 219, 226))
_FACES = (0.82, 0.66, 1.0)  # brightness of sides along y, of sides along x, of tops
_SEEN = 0.0008  # of a view's pixels that a box must show in one of the views

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
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
class Room:
    width: float  # metres, along x
    depth: float
    boxes: tuple[Box, ...]


class _Camera:
    """A pinhole outside one corner, above head height, that looks at the middle of the floor and sees all of it."""

    def __init__(self, room: Room, corner: int, side: float) -> None:
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


def view_of(room: Room, corner: int, size: int) -> Image:
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


def all_seen(room: Room, corners: Sequence[int], size: int) -> bool:
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


def _faces(box: Box, camera: _Camera) -> tuple[list[Point], list[Point], list[Point]]:
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


def _far_to_near(boxes: Sequence[Box], camera: _Camera) -> list[Box]:
    """Of two boxes that stand apart along an axis, the one on the camera's side is nearer; cameras stand at corners,
    so there is always an order. Picks, again and again, a box that covers none of the others left.
    """

    def covers(a: Box, b: Box) -> bool:
        if abs(a.x - b.x) > (a.width + b.width) / 2:
            return (a.x < b.x) == (camera.x < b.x)
        return (a.y < b.y) == (camera.y < b.y)

    left, order = list(boxes), []
    while left:
        far = next((a for a in left if not any(covers(a, b) for b in left if b is not a)), left[0])
        left.remove(far)
        order.append(far)
    return order
