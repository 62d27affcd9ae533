"""How many tokens a picture or clip becomes in each model family, by the rules of their processors.

A side is rounded to a multiple of `factor` (patch size × merge size), and the whole scaled into the family's bounds on
the area (smart_resize of qwen-vl-utils 0.0.14, and transformers' processor of LFM2-VL; held to both in tests). Of a
clip, frames are sampled and shrunk by the first library's rules, and two frames make one grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FPS, LEAST_FRAMES, MOST_FRAMES = 2.0, 4, 768  # of a clip, sampled
_FRAME_TOKENS = (128, 768)  # least and most of one frame
_CLIP_TOKENS = 0.9 * 128_000  # of all pairs of frames together


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """One family's defaults."""

    factor: int  # pixels of a token's side
    least: int  # pixels of a picture
    most: int
    clips: bool = True  # whether the family is shown clips and lists of frames


FAMILIES: Mapping[str, TokenRule] = {
    "qwen2-vl": TokenRule(factor=28, least=4 * 28 * 28, most=16384 * 28 * 28),
    "qwen2.5-vl": TokenRule(factor=28, least=4 * 28 * 28, most=16384 * 28 * 28),
    "qwen3-vl": TokenRule(factor=32, least=65536, most=16777216),
    "qwen3.5": TokenRule(factor=32, least=65536, most=16777216),
    "lfm2-vl": TokenRule(factor=32, least=64 * 32 * 32, most=256 * 32 * 32, clips=False),  # never cut into tiles here
}


def picture_tokens(width: int, height: int, rule: TokenRule) -> int:
    """Of one picture."""
    w, h = resized(width, height, rule.factor, rule.least, rule.most)
    return (w // rule.factor) * (h // rule.factor)


def clip_tokens(width: int, height: int, frames: int, rule: TokenRule) -> int:
    """Of so many sampled frames."""
    square = rule.factor**2
    least = _FRAME_TOKENS[0] * square
    most = max(min(_FRAME_TOKENS[1] * square, _CLIP_TOKENS * square / frames * 2), int(least * 1.05))
    w, h = resized(width, height, rule.factor, least, most)
    return max(1, w // rule.factor) * max(1, h // rule.factor) * math.ceil(frames / 2)


def clip_families() -> dict[str, TokenRule]:
    """Those that are shown clips."""
    return {name: rule for name, rule in FAMILIES.items() if rule.clips}


def sampled_frames(seconds: float, rate: float, fps: float | None, max_frames: int | None) -> int:
    """Frames that are shown of a clip of so many seconds at so many frames per second."""
    there = max(2, round(seconds * rate))
    most = min(max_frames or MOST_FRAMES, MOST_FRAMES) // 2 * 2
    wanted = there / rate * (fps or FPS)
    return max(2, int(min(max(wanted, LEAST_FRAMES), most, there)) // 2 * 2)


def resized(width: int, height: int, factor: int, least: float, most: float) -> tuple[int, int]:
    """(width, height) after resizing: multiples of `factor`, the area within bounds as far as that goes."""
    w, h = max(factor, round(width / factor) * factor), max(factor, round(height / factor) * factor)
    if w * h > most:
        scale = math.sqrt(width * height / most)
        w, h = (max(factor, math.floor(side / scale / factor) * factor) for side in (width, height))
    elif w * h < least:
        scale = math.sqrt(least / (width * height))
        w, h = (math.ceil(side * scale / factor) * factor for side in (width, height))
    return w, h
