"""Frames and sizes are those of qwen-vl-utils, held against the library itself on real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.data.video import ClipReader
from mmrl.data.video_info import ClipInfo, ClipTrouble
from mmrl.data.video_plan import ClipRules, evenly, frame_size, plan_clip, plan_files
from mmrl.types import Media
from tests.clips import write_clip


def info(frames: int, fps: float, *, width: int = 640, height: int = 360) -> ClipInfo:
    """What a clip of so many evenly shown frames would say."""
    return ClipInfo(
        width=width,
        height=height,
        frame_rate=fps,
        seconds=tuple(i / fps for i in range(frames)),
        stamps=tuple(range(frames)),
        keys=(0,),
        reordered=False,
        avoid_decord="",
    )


def theirs(path: Path, **element: Any) -> tuple[torch.Tensor, dict[str, Any], float]:
    """Frames, metadata and sampled rate of the library's own reader (decord)."""
    from qwen_vl_utils import vision_process  # type: ignore[import-untyped]

    before = vision_process.get_video_reader_backend
    vision_process.get_video_reader_backend = lambda: "decord"
    try:
        (video, metadata), rate = vision_process.fetch_video(
            {"video": str(path), **element}, return_video_sample_fps=True, return_video_metadata=True
        )
    finally:
        vision_process.get_video_reader_backend = before
    return video, metadata, rate


@pytest.mark.parametrize(
    ("media", "element"),
    [
        ({}, {}),
        ({"start": 1.3, "end": 6.2}, {"video_start": 1.3, "video_end": 6.2}),
        ({"fps": 3.0}, {"fps": 3.0}),
        ({"fps": 50.0, "end": 1.2}, {"fps": 50.0, "video_end": 1.2}),
        ({"fps": 0.1}, {"fps": 0.1}),
        ({"max_frames": 7}, {"max_frames": 7}),
        ({"start": 2.0, "max_frames": 6, "fps": 4.0}, {"video_start": 2.0, "max_frames": 6, "fps": 4.0}),
    ],
)
def test_frames_pixels_and_rate_equal_the_library_s(
    tmp_path: Path, media: dict[str, Any], element: dict[str, Any]
) -> None:
    from mmrl.policy.preprocess import resized

    path = write_clip(tmp_path / "a.mp4", 75, fps=10, width=640, height=360)
    rules, reader, item = ClipRules(), ClipReader(), Media(type="video", path=str(path), **media)
    plans = []

    def choose(found: ClipInfo) -> tuple[int, ...]:
        plans.append(plan_clip(found, item, rules))
        return plans[0].frames

    decoded = reader.read(str(path), choose, lambda frames: frames)
    reader.close()
    video, metadata, rate = theirs(path, **element)
    assert list(decoded.frames) == list(metadata["frames_indices"])
    assert plans[0].sampled_fps == pytest.approx(rate, rel=1e-12)
    size = frame_size(640, 360, len(decoded.frames), rules, factor=28)
    assert video.shape[2:] == (size[1], size[0])
    assert torch.equal(torch.cat([resized(piece, size) for piece in decoded.pieces]).float(), video)


@settings(max_examples=100, deadline=None)
@given(
    frames=st.integers(2, 2000),
    fps=st.floats(0.5, 120),
    rate=st.floats(0.05, 240),
    most=st.one_of(st.none(), st.integers(2, 768)),
)
def test_the_number_of_frames_is_the_library_s(frames: int, fps: float, rate: float, most: int | None) -> None:
    from qwen_vl_utils.vision_process import smart_nframes  # type: ignore[import-untyped]

    element = {"fps": rate} | ({} if most is None else {"max_frames": most})
    plan = plan_clip(info(frames, fps), Media(type="video", path="x", fps=rate, max_frames=most), ClipRules())
    assert len(plan.frames) == smart_nframes(element, frames, fps)
    assert len(plan.frames) % 2 == 0
    assert len(set(plan.frames)) == len(plan.frames) <= min(frames, most or 768)
    assert list(plan.frames) == sorted(plan.frames)
    assert plan.sampled_fps == pytest.approx(len(plan.frames) / frames * fps)


def test_sizes_worked_by_hand() -> None:
    # 640 × 360: 640 / 28 = 22.86 → 23, 360 / 28 = 12.86 → 13: 644 × 364 = 234,416 pixels, within 100,352 and 602,112.
    assert frame_size(640, 360, 4, ClipRules(), factor=28) == (644, 364)
    # At most 50,176 = 224²: shrink by √(230,400 / 50,176) = 2.143 to 298.7 × 168, then down to multiples: 280 × 168.
    assert frame_size(640, 360, 4, ClipRules(min_pixels=3136, max_pixels=50_176), factor=28) == (280, 168)
    # 2,000 frames share 115,200 · 784 pixels in pairs: 90,317 each, but no fewer than 1.05 · 100,352 = 105,369:
    # shrink by √(230,400 / 105,369) = 1.479 to 432.8 × 243.4 → 420 × 224.
    assert frame_size(640, 360, 2000, ClipRules(), factor=28) == (420, 224)
    assert frame_size(640, 360, 4, ClipRules(), factor=32) == (640, 352)  # Qwen3-VL's squares
    with pytest.raises(ClipTrouble, match="4020×20"):
        frame_size(4020, 20, 4, ClipRules(), factor=28)


def test_evenly_spaced_numbers_hold_both_ends() -> None:
    assert evenly(0, 23, 6) == (0, 5, 9, 14, 18, 23)
    assert evenly(3, 3, 1) == (3,)


def test_a_sample_cannot_ask_for_more_frames_than_the_run_allows() -> None:
    media = Media(type="video", path="x", fps=30, max_frames=100)
    assert len(plan_clip(info(300, 30), media, ClipRules(max_frames=16)).frames) == 16


def test_listed_frames_are_all_shown_up_to_the_bound() -> None:
    assert plan_files(5, ClipRules()) == (0, 1, 2, 3, 4)
    assert plan_files(9, ClipRules(max_frames=4)) == (0, 3, 5, 8)  # 0, 2.67, 5.33, 8
