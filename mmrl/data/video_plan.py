"""Which frames of a clip a model is shown, and at which size: the rules of qwen-vl-utils, by its own functions.

Two settings of that library that come from environment variables (`MODEL_SEQ_LEN`, `FORCE_QWENVL_VIDEO_READER`) are not
followed. Its functions are imported where they are used: they bring torch along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmrl.data.video_info import ClipInfo, ClipTrouble
from mmrl.errors import DataError
from mmrl.types import Media

FRAME_FACTOR = 2  # frames become one grid time in pairs
MIN_TOKENS, MAX_TOKENS = 128, 768  # of one frame's pixels, in squares of patch size × merge size
TOTAL_TOKENS = 0.9 * 128_000  # of a clip's frames together


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRules:
    """Bounds for clips that do not bring their own. The defaults are those of qwen-vl-utils 0.0.14."""

    fps: float = 2.0  # frames sampled per second
    min_frames: int = 4  # even
    max_frames: int = 768
    min_pixels: int | None = None  # area of a frame after resizing; None: 128 · factor²
    max_pixels: int | None = None  # None: 768 · factor²
    total_pixels: int | None = None  # of all pairs of frames together; None: 115,200 · factor²


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan:
    """The frames of a clip that are shown."""

    frames: tuple[int, ...]  # their numbers, ascending
    sampled_fps: float  # how many of them there are to a second


def plan_clip(info: ClipInfo, media: Media, rules: ClipRules) -> ClipPlan:
    """Frames evenly spaced over the clip, or over its part from `media.start` to `media.end`.

    Raises ClipTrouble where that part holds fewer than two frames, DataError where `media.max_frames` is below two.
    """
    from qwen_vl_utils.vision_process import calculate_video_frame_range, smart_nframes  # type: ignore[import-untyped]

    first, last, count = 0, info.frames - 1, info.frames
    if media.start is not None or media.end is not None:
        _check_range(info, media)
        asked = {"video_start": media.start, "video_end": media.end}
        try:
            first, last, count = calculate_video_frame_range(asked, info.frames, info.frame_rate)
        except ValueError as error:
            raise ClipTrouble("too few frames", f"{_range(media)} holds fewer than two frames") from error
    if count < FRAME_FACTOR:
        raise ClipTrouble("too few frames", f"has {count} frame" + ("s" if count != 1 else ""))
    fps = media.fps or rules.fps
    most = _even(min(media.max_frames or rules.max_frames, rules.max_frames, count))
    if most < FRAME_FACTOR:
        raise DataError(
            f"{media.path}: max_frames is {media.max_frames}, and frames are shown in pairs: give at least 2, or save "
            f"the frame and name it as a picture."
        )
    # The same number either way; asking for more frames than there are would make the library print a warning.
    asked_for: dict[str, Any] = {"fps": fps, "min_frames": rules.min_frames, "max_frames": most}
    total = smart_nframes(
        {"nframes": most} if count / info.frame_rate * fps >= count else asked_for,
        total_frames=count,
        video_fps=info.frame_rate,
    )
    return ClipPlan(frames=evenly(first, last, total), sampled_fps=total / count * info.frame_rate)


def plan_files(count: int, rules: ClipRules) -> tuple[int, ...]:
    """Which of `count` listed frames are shown: all, or `rules.max_frames` evenly spaced where there are more."""
    return evenly(0, count - 1, min(count, _even(rules.max_frames)))


def evenly(first: int, last: int, count: int) -> tuple[int, ...]:
    """`count` frame numbers from `first` to `last`, both included: torch's linspace, rounded."""
    import torch

    return tuple(int(i) for i in torch.linspace(first, last, count).round().long())


def frame_size(width: int, height: int, frames: int, rules: ClipRules, *, factor: int) -> tuple[int, int]:
    """(width, height) of a frame after resizing: multiples of `factor` (patch size × merge size), area in bounds.

    The more frames, the smaller each may be. Raises ClipTrouble for an aspect ratio above 200.
    """
    from qwen_vl_utils.vision_process import smart_resize

    square = factor * factor
    least = rules.min_pixels or MIN_TOKENS * square
    total = rules.total_pixels or TOTAL_TOKENS * square
    most = max(min(rules.max_pixels or MAX_TOKENS * square, total / frames * FRAME_FACTOR), int(least * 1.05))
    try:
        resized_height, resized_width = smart_resize(height, width, factor, min_pixels=least, max_pixels=most)
    except ValueError as error:
        raise ClipTrouble("extreme aspect ratio", f"has frames of {width}×{height} pixels") from error
    return max(factor, resized_width), max(factor, resized_height)


def _check_range(info: ClipInfo, media: Media) -> None:
    length = info.frames / info.frame_rate
    if media.start is not None and media.end is not None and media.start >= media.end:
        raise ClipTrouble("empty time range", f"is to be shown {_range(media)}")
    if media.start is not None and media.start >= length:
        raise ClipTrouble("start beyond the end", f"is {length:.2f} s long and to be shown {_range(media)}")


def _range(media: Media) -> str:
    start = "the beginning" if media.start is None else f"{media.start:g} s"
    return f"from {start} to " + ("the end" if media.end is None else f"{media.end:g} s")


def _even(count: int) -> int:
    return count // FRAME_FACTOR * FRAME_FACTOR


def times(info: ClipInfo, frames: Sequence[int]) -> tuple[float, ...]:
    """When each of these frames is shown, seconds."""
    return tuple(info.seconds[i] for i in frames)
