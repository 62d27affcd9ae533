"""A walk over coloured cells, so that every step of the reasoning can be checked, not only its end.

"Start on the cell with the white dot. Each cell's arrow says where to go next. Which colour is the cell after 3 steps?"

`metadata["steps"]` holds the colour after every step (the last one is the answer), `metadata["step_words"]` all colours
of the picture, and `metadata["reasoning"]` a reasoning that is right; the reward `steps` compares a completion's
reasoning with them. A reasoning that only happens to end at the right colour is worth little there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import Field

from mmrl.data.builders.worlds.shapes import COLOURS
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source

if TYPE_CHECKING:
    from PIL.Image import Image

_MOVES = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
_INKS = [name for name in COLOURS if name != "black"]  # arrows are black
_FINER = 3


class StepOptions(WorldOptions):
    """Options of the builder `steps`."""

    cells: int = Field(4, ge=3, le=8, description="cells along each side")
    cells_hard: int = Field(5, ge=3, le=10, description="the same in hard splits")
    most_steps: int = Field(4, ge=2, le=10)
    most_steps_hard: int = Field(7, ge=2, le=20)


Cell = tuple[int, int]


def build_steps(options: StepOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One walk per question."""
    return generated(
        "steps", lambda slot: _make(slot, options), seed=seed, splits=splits, hard_splits=options.hard_splits
    )


def _make(slot: Slot, options: StepOptions) -> Draft:
    dice = slot.random
    side = options.cells_hard if slot.hard else options.cells
    most = options.most_steps_hard if slot.hard else options.most_steps
    length, slot = slot.deal_kind("length", range(max(2, most - 3), most + 1))
    right = slot.deal("colour", _INKS)
    cells = [(x, y) for y in range(side) for x in range(side)]
    path = _walk(slot, cells, length)
    arrows = {cell: dice.choice([name for name in _MOVES if _next(cell, name) in cells]) for cell in cells}
    arrows |= {here: _move(here, there) for here, there in pairwise(path)}
    colours = {cell: dice.choice(_INKS) for cell in cells}
    colours[path[-1]] = right
    for there, here in pairwise(path[::-1]):  # neighbours differ, so that every step changes the colour
        colours[here] = dice.choice([colour for colour in _INKS if colour != colours[there]])
    near = [colours[cell] for cell in [*path[-2::-1], *dice.sample(cells, len(cells))]]
    wrong = [colour for colour in dict.fromkeys(near) if colour != right][:3]
    if len(wrong) < 3:
        raise DoesNotFit
    choices, answer = slot.options(right, wrong)
    steps = [colours[cell] for cell in path[1:]]
    told = [f"Step {i}: {arrows[path[i - 1]]} to {colour}." for i, colour in enumerate(steps, start=1)]
    return Draft(
        key="",
        task="steps",
        question=(
            "Start on the cell with the white dot. Each cell's arrow says where to go next. "
            f"Which colour is the cell after {length} steps? Name the colour after each step."
        ),
        choices=choices,
        answer=answer,
        media=(png(_picture(colours, arrows, path[0], side, options.size)),),
        metadata={"steps": steps, "step_words": list(_INKS), "reasoning": " ".join(told)},
    )


def _walk(slot: Slot, cells: Sequence[Cell], length: int) -> list[Cell]:
    """A way that crosses no cell twice: one that goes in circles could be cut short."""
    path = [slot.random.choice(cells)]
    while len(path) <= length:
        ways = [there for move in _MOVES if (there := _next(path[-1], move)) in cells and there not in path]
        if not ways:
            raise DoesNotFit
        path.append(slot.random.choice(ways))
    return path


def _move(here: Cell, there: Cell) -> str:
    return next(name for name in _MOVES if _next(here, name) == there)


def _next(cell: Cell, move: str) -> Cell:
    return cell[0] + _MOVES[move][0], cell[1] + _MOVES[move][1]


def _picture(colours: Mapping[Cell, str], arrows: Mapping[Cell, str], start: Cell, side: int, size: int) -> Image:
    from PIL import Image, ImageDraw

    whole = size * _FINER
    cell = whole / side
    picture = Image.new("RGB", (whole, whole), "white")
    pen = ImageDraw.Draw(picture)
    for (x, y), colour in colours.items():
        left, top = x * cell, y * cell
        pen.rectangle((left, top, left + cell, top + cell), fill=COLOURS[colour], outline="white", width=_FINER)
        dx, dy = _MOVES[arrows[x, y]]
        mx, my, reach = left + cell / 2, top + cell / 2, cell * 0.3
        tip = (mx + dx * reach, my + dy * reach)
        tail = (mx - dx * reach, my - dy * reach)
        pen.line((*tail, *tip), fill="black", width=round(cell * 0.09))
        wing = cell * 0.2
        base = (tip[0] - dx * wing, tip[1] - dy * wing)
        pen.polygon([tip, (base[0] - dy * wing, base[1] + dx * wing), (base[0] + dy * wing, base[1] - dx * wing)],
                    fill="black")  # fmt: skip
        if (x, y) == start:
            r, cx, cy = cell * 0.11, left + cell * 0.18, top + cell * 0.18
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill="white", outline="black", width=_FINER)
    return picture.resize((size, size), Image.Resampling.BOX)
