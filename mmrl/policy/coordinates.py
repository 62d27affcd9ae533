"""The coordinates a model speaks: which number it writes for the right and the lower edge of a picture.

`MediaView` carries the two numbers with each prompt and converts points both ways; boxes are two points.
"""

from __future__ import annotations

from typing import Any


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
