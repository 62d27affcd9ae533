"""Coloured shapes on a plain ground: where they lie, what they look like, and the pixels they cover."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmrl.data.builders.worlds.world import DoesNotFit

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 150, 60),
    "blue": (40, 90, 200),
    "yellow": (240, 205, 30),
    "purple": (140, 70, 180),
    "orange": (255, 137, 20),
    "black": (30, 30, 30),
    "pink": (245, 140, 190),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
_GROUNDS = ((250, 250, 250), (235, 238, 245), (245, 240, 230), (228, 240, 232), (240, 232, 240))
_FINER = 4  # pixels are drawn so many times finer in each direction, then averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One shape, in pixels of the picture."""

    shape: str
    colour: str
    x: float  # centre
    y: float
    radius: float  # of the circle around it
    turn: float = 0.0  # radians

    @property
    def outline(self) -> list[tuple[float, float]]:
        """Its corners; of a circle, 48 points of its edge."""
        return [
            (
                self.x + self.radius * (x * math.cos(self.turn) - y * math.sin(self.turn)),
                self.y + self.radius * (x * math.sin(self.turn) + y * math.cos(self.turn)),
            )
            for x, y in _OUTLINES[self.shape]
        ]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of what it covers, to a tenth of a pixel."""
        xs, ys = zip(*self.outline, strict=True)
        return round(min(xs), 1), round(min(ys), 1), round(max(xs), 1), round(max(ys), 1)

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


def _around(count: int, start: float, radii: Sequence[float] = (1.0,)) -> tuple[tuple[float, float], ...]:
    angles = [start + 2 * math.pi * i / count for i in range(count)]
    return tuple(
        (radii[i % len(radii)] * math.cos(angle), radii[i % len(radii)] * math.sin(angle))
        for i, angle in enumerate(angles)
    )


_ARM = 0.34
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": _around(48, 0.0),
    "square": _around(4, math.pi / 4),
    "triangle": _around(3, -math.pi / 2),
    "star": _around(10, -math.pi / 2, (1.0, 0.42)),
    "diamond": ((0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)),
    "cross": tuple(
        (0.98 * x, 0.98 * y)
        for x, y in (
            (-_ARM, -0.94), (_ARM, -0.94), (_ARM, -_ARM), (0.94, -_ARM), (0.94, _ARM), (_ARM, _ARM),
            (_ARM, 0.94), (-_ARM, 0.94), (-_ARM, _ARM), (-0.94, _ARM), (-0.94, -_ARM), (-_ARM, -_ARM),
        )
    ),
}  # fmt: skip


def scatter(
    names: Sequence[tuple[str, str]],
    *,
    size: int,
    hard: bool,
    dice: random.Random,
    radii: Sequence[float] | None = None,
) -> list[Thing]:
    """Things of the given (shape, colour) at places where none touches another; DoesNotFit where no place was found.

    radii: of each, as shares of the picture's side; drawn where not given.
    """
    small, large = (0.055, 0.1) if hard else (0.085, 0.135)
    things: list[Thing] = []
    for index, (shape, colour) in enumerate(names):
        radius = size * (radii[index] if radii is not None else dice.uniform(small, large))
        turn = dice.uniform(-0.5, 0.5) if hard else dice.uniform(-0.15, 0.15)
        for _ in range(60):
            x, y = (dice.uniform(radius + 1, size - radius - 1) for _ in range(2))
            if all(math.hypot(x - t.x, y - t.y) > radius + t.radius + 0.015 * size for t in things):
                things.append(Thing(shape=shape, colour=colour, x=x, y=y, radius=radius, turn=turn))
                break
        else:
            raise DoesNotFit
    return things


def draw(things: Sequence[Thing], *, size: int, hard: bool, dice: random.Random) -> Image:
    """The picture. Hard ones have a ground with faint lines, so that shapes are harder to cut out."""
    behind = ground(size=size, hard=hard, dice=dice)
    return paint(behind, things, shades=[dice.uniform(0.88, 1.0) for _ in things])


def ground(*, size: int, hard: bool, dice: random.Random) -> Image:
    """What lies behind the things; finer than the picture, for `paint`."""
    from PIL import Image, ImageDraw

    side = size * _FINER
    picture = Image.new("RGB", (side, side), dice.choice(_GROUNDS))
    pen = ImageDraw.Draw(picture)
    for _ in range(dice.randint(6, 12) if hard else 0):
        ends = [dice.uniform(0, side) for _ in range(4)]
        grey = dice.randint(185, 225)
        pen.line(ends, fill=(grey, grey, grey), width=max(1, round(0.008 * side)))
    return picture


def paint(behind: Image, things: Sequence[Thing], *, shades: Sequence[float]) -> Image:
    """The things on a copy of a `ground`, at the picture's size; shades: 1 is the colour itself, less is darker."""
    from PIL import Image, ImageDraw

    picture = behind.copy()
    pen = ImageDraw.Draw(picture)
    for thing, shade in zip(things, shades, strict=True):
        fill = tuple(round(value * shade) for value in COLOURS[thing.colour])
        pen.polygon([(x * _FINER, y * _FINER) for x, y in thing.outline], fill=fill)
    size = behind.width // _FINER
    return picture.resize((size, size), Image.Resampling.BOX)
