"""The coordinates a model speaks: which number it writes for the right and the lower edge of a picture.

`MediaView` carries the two numbers with each prompt and converts points both ways; boxes are two points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrl.types import Answer, MediaView, Space


def thousandths(grid: tuple[int, int, int], config: Any) -> tuple[float, float]:
    """0 to 1000 along each side, whatever the picture's size: Qwen2-VL, Qwen3-VL."""
    return 1000.0, 1000.0


def shares(grid: tuple[int, int, int], config: Any) -> tuple[float, float]:
    """0 to 1 along each side, as decimal fractions: LFM2.5-VL."""
    return 1.0, 1.0


def resized_pixels(grid: tuple[int, int, int], config: Any) -> tuple[float, float]:
    """Pixels of the resized picture, from the grid of patches that was actually used: Qwen2.5-VL."""
    patch = config.vision_config.patch_size
    return float(grid[2] * patch), float(grid[1] * patch)


def written(points: Sequence[float], space: Space, view: MediaView) -> list[float]:
    """x, y, x, y … of an answer as the model would write them.

    Whole numbers where it counts pixels or thousandths, three decimals where it writes shares. A box keeps an area.
    """
    sizes = {"pixels": (1.0, 1.0), "unit": (view.width, view.height), "norm1000": (view.width / 1e3, view.height / 1e3)}
    x_size, y_size = sizes[space]
    digits = 0 if view.spoken_width > 1 else 3
    out: list[float] = []
    for x, y in zip(points[0::2], points[1::2], strict=True):
        out += (round(number, digits) for number in view.to_spoken(x * x_size, y * y_size))
    if len(out) == 4:
        out[2:] = (max(second, first + 10**-digits) for first, second in zip(out[:2], out[2:], strict=True))
    return out


def located_text(answer: Answer, views: Sequence[MediaView]) -> str:
    """A box [x1, y1, x2, y2], a list of boxes or a point [x, y] about the first item that is shown."""
    if answer.type == "boxes":
        return "[" + ", ".join(_listed(written(box, answer.space, views[0])) for box in answer.value) + "]"
    return _listed(written(answer.value, answer.space, views[0]))


def _listed(numbers: Sequence[float]) -> str:
    return "[" + ", ".join(f"{number:.6g}" for number in numbers) + "]"
