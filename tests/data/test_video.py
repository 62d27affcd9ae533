"""Clips are decoded exactly, with the frames of qwen-vl-utils, in a process that nothing can hang, crash or fill."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from mmrl.data.images import BrokenMedia
from mmrl.data.video import ClipReader, DecodedClip
from mmrl.data.video_plan import ClipRules, plan_clip
from mmrl.errors import DataError
from mmrl.types import Media
from tests.clips import number_of, write_clip, write_sound

ODD = "tests.data.odd_readers"
PYAV = {"pyav": "mmrl.data.video_readers:pyav_frames"}


@pytest.fixture(scope="module")
def reader() -> Iterator[ClipReader]:
    reader = ClipReader()
    yield reader
    reader.close()


def clip(path: Path, **options: float) -> Media:
    return Media(type="video", path=str(path), **options)  # type: ignore[arg-type]


def read(reader: ClipReader, media: Media) -> tuple[DecodedClip[list[int]], list[int]]:
    """The decoded clip, and the numbers its frames show."""
    assert media.path is not None
    decoded = reader.read(
        media.path, lambda info: plan_clip(info, media, ClipRules()).frames, lambda piece: [number_of(f) for f in piece]
    )
    return decoded, [number for piece in decoded.pieces for number in piece]


def reason(reader: ClipReader, media: Media) -> str:
    """Why the clip cannot be used."""
    with pytest.raises(BrokenMedia) as caught:
        read(reader, media)
    assert str(media.path) in str(caught.value)
    return caught.value.reason


# ── which frames ──


def test_frames_are_those_of_the_rules(reader: ClipReader, tmp_path: Path) -> None:
    # 24 frames at 8 a second are 3 s: 2 a second make 6, evenly from 0 to 23: 0, 4.6, 9.2, 13.8, 18.4, 23.
    decoded, shown = read(reader, clip(write_clip(tmp_path / "a.mp4")))
    assert shown == list(decoded.frames) == [0, 5, 9, 14, 18, 23]
    assert (decoded.reader, decoded.reader_note) == ("decord", "")
    assert decoded.info.seconds[9] == pytest.approx(9 / 8)
    assert (decoded.info.width, decoded.info.height, decoded.info.frame_rate) == (96, 64, 8.0)


def test_start_end_rate_and_bound_of_a_sample_are_kept(reader: ClipReader, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 80)  # 10 s
    # From 2.1 s (first frame at or after: 17) to 6 s (48): 32 frames, 4 s, 8 of them at 2 a second.
    assert read(reader, clip(path, start=2.1, end=6.0))[1] == [17, 21, 26, 30, 35, 39, 44, 48]
    assert read(reader, clip(path, start=8.0))[1] == [64, 69, 74, 79]
    assert read(reader, clip(path, fps=0.6))[1] == [0, 16, 32, 47, 63, 79]
    assert read(reader, clip(path, max_frames=3))[1] == [0, 79]
    # No more than there are (0–8), and an even number: 0, 1.14, 2.29, 3.43, 4.57, 5.71, 6.86, 8.
    assert read(reader, clip(path, end=1.0, fps=100))[1] == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("faststart.mp4", {"container": {"movflags": "faststart"}}),
        ("mpeg4.mp4", {"codec": "mpeg4"}),
        ("quicktime.mov", {}),
        ("matroska.mkv", {}),
        ("web.webm", {"codec": "libvpx"}),
        ("ntsc.mp4", {"fps": Fraction(30000, 1001)}),
        ("one-key-frame.mp4", {"key_frame_every": 250}),
        ("only-key-frames.mp4", {"key_frame_every": 1}),
    ],
)
def test_both_readers_return_the_frames_that_were_asked(
    reader: ClipReader, tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    media = clip(write_clip(tmp_path / name, 61, **options), fps=3)  # type: ignore[arg-type]
    decoded, shown = read(reader, media)
    assert decoded.reader == "decord"
    assert shown == list(decoded.frames)
    with_pyav = ClipReader(readers=PYAV)
    assert read(with_pyav, media)[1] == shown
    with_pyav.close()


def test_times_of_frames_are_the_file_s_own(reader: ClipReader, tmp_path: Path) -> None:
    stamps = [0, 40, 45, 300, 310, 900, 1000, 1600, 1700, 2000]
    decoded, shown = read(reader, clip(write_clip(tmp_path / "uneven.mp4", 10, stamps=stamps), fps=100))
    assert shown == list(range(10))
    assert [decoded.info.seconds[i] for i in decoded.frames] == pytest.approx([s / 1000 for s in stamps], abs=1e-3)


# ── where decord returns other frames than asked, without an error ──


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("old.avi", {}, "avi"),
        ("open.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:open-gop=1:bframes=3"}}, "open"),
    ],
)
def test_clips_that_decord_misreads_are_read_by_pyav(
    reader: ClipReader, tmp_path: Path, name: str, options: dict[str, object], note: str
) -> None:
    media = clip(write_clip(tmp_path / name, 60, key_frame_every=5, **options), fps=3)  # type: ignore[arg-type]
    decoded, shown = read(reader, media)
    assert shown == list(decoded.frames)
    assert decoded.reader == "pyav"
    assert decoded.reader_note.startswith("decord: ")
    assert note in decoded.reader_note


def test_a_wrong_last_frame_is_noticed(reader: ClipReader, tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mp4", 36, options={"crf": "10", "bf": "3", "x264-params": "open-gop=1"}, key_frame_every=12
    )
    import decord  # type: ignore[import-untyped]

    alone = decord.VideoReader(str(path), num_threads=1)
    assert number_of(alone[35].asnumpy()) != 35  # what is guarded against; where it is mended, so is the reason
    decoded, shown = read(reader, clip(path))
    assert shown == list(decoded.frames)
    assert decoded.frames[-1] == 35
    assert decoded.reader == "pyav"
    assert "as its frame 35" in decoded.reader_note


# ── files that cannot be used ──


def cut(path: Path, share: float) -> Path:
    whole = path.read_bytes()
    short = path.with_name(f"cut-{path.name}")
    short.write_bytes(whole[: int(len(whole) * share)])
    return short


def test_files_that_are_no_clips_have_their_reasons(reader: ClipReader, tmp_path: Path) -> None:
    empty, words, pipe = (tmp_path / name for name in ("empty.mp4", "words.mp4", "pipe.mp4"))
    empty.touch()
    words.write_text("no clip at all " * 200)
    os.mkfifo(pipe)
    assert reason(reader, clip(empty)) == "empty file"
    assert reason(reader, clip(words)) == "corrupt video"
    assert reason(reader, clip(pipe)) == "not a file"
    assert reason(reader, clip(tmp_path)) == "not a file"
    assert reason(reader, clip(write_sound(tmp_path / "sound.mp4"))) == "no video stream"
    with pytest.raises(DataError, match=r"the clip .*gone\.mp4 does not exist"):
        read(reader, clip(tmp_path / "gone.mp4"))


@pytest.mark.parametrize("name", ["moov-last.mp4", "faststart.mp4", "mpeg4.mp4", "old.avi", "matroska.mkv"])
def test_cut_files_are_noticed(reader: ClipReader, tmp_path: Path, name: str) -> None:
    options: dict[str, object] = {"container": {"movflags": "faststart"}} if name != "moov-last.mp4" else {}
    options |= {"codec": "mpeg4"} if name == "mpeg4.mp4" else {}
    options = {} if name.endswith(("avi", "mkv")) else options
    path = write_clip(tmp_path / name, 60, texture=True, **options)  # type: ignore[arg-type]
    assert read(reader, clip(path))[0].info.frames == 60
    for share in (0.9, 0.5, 0.2):
        assert reason(reader, clip(cut(path, share))) == "truncated video"


def test_damage_inside_a_file_is_noticed(reader: ClipReader, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 40, texture=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 8 : len(data) * 7 // 8] = bytes(len(data) * 7 // 8 - len(data) // 8)
    path.write_bytes(data)
    assert reason(reader, clip(path)) == "corrupt video"


def test_ranges_without_frames_are_refused(reader: ClipReader, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 24)  # 3 s
    assert reason(reader, clip(path, start=2.0, end=2.0)) == "empty time range"
    assert reason(reader, clip(path, start=2.0, end=1.0)) == "empty time range"
    assert reason(reader, clip(path, start=3.0)) == "start beyond the end"
    assert reason(reader, clip(path, start=1.01, end=1.1)) == "too few frames"
    assert reason(reader, clip(write_clip(tmp_path / "one.mp4", 1))) == "too few frames"
    with pytest.raises(DataError, match="max_frames is 1"):
        read(reader, clip(path, max_frames=1))
    assert read(reader, clip(path, start=1.0, end=99.0))[1][-1] == 23  # an end beyond the clip means its end


def test_frames_of_extreme_shape_are_refused(reader: ClipReader, tmp_path: Path) -> None:
    assert reason(reader, clip(write_clip(tmp_path / "strip.mp4", 4, width=3300, height=16))) == "extreme aspect ratio"


# ── the process ──


def timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_a_decoder_that_hangs_is_killed_and_the_next_clip_is_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 8)
    reader = ClipReader(deadline_seconds=0.5, readers={"stuck": f"{ODD}:hang"})
    reader.inspect(str(path))
    first = reader.process_id
    assert timed(lambda: reason(reader, clip(path))) < 3
    assert first is not None
    assert not Path(f"/proc/{first}").exists()
    os.unlink(f"{path}.pipe")
    assert reason(reader, clip(path)) == "decoding timed out"
    assert reader.inspect(str(path)).frames == 8
    assert reader.process_id not in (None, first)
    reader.close()
    assert reader.process_id is None


def test_after_a_hang_the_next_reader_is_tried_and_that_is_recorded(tmp_path: Path) -> None:
    media = clip(write_clip(tmp_path / "a.mp4", 8))
    reader = ClipReader(deadline_seconds=0.5, readers={"stuck": f"{ODD}:halfway", **PYAV})
    decoded, shown = read(reader, media)
    assert shown == list(decoded.frames) == [0, 2, 5, 7]
    assert decoded.reader == "pyav"
    assert decoded.reader_note == "stuck: was not decoded within 0.5 s"
    reader.close()


def test_a_decoder_that_takes_too_much_memory_is_killed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 8)
    reader = ClipReader(memory_bytes=600 * 2**20, readers={"leak": f"{ODD}:leak"})
    assert reason(reader, clip(path)) == "decoding took too much memory"
    assert reader.process_id is None
    assert reader.inspect(str(path)).frames == 8
    reader.close()


def test_a_decoder_that_crashes_is_replaced(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 8)
    reader = ClipReader(readers={"crash": f"{ODD}:crash"})
    with pytest.raises(BrokenMedia, match="SIGABRT") as caught:
        read(reader, clip(path))
    assert caught.value.reason == "decoder crashed"
    assert reader.inspect(str(path)).frames == 8
    reader.close()


def test_a_process_that_was_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 8))
    reader = ClipReader()
    reader.inspect(path)
    assert reader.process_id is not None
    os.kill(reader.process_id, 9)
    time.sleep(0.1)
    assert reader.inspect(path).frames == 8
    reader.close()


def test_threads_take_turns(reader: ClipReader, tmp_path: Path) -> None:
    clips = [clip(write_clip(tmp_path / f"{i}.mp4", 20 + i)) for i in range(4)]
    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: read(reader, clips[i])[1]})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i: shown[-1] for i, shown in found.items()} == {i: 19 + i for i in range(4)}


def test_frames_arrive_a_few_at_a_time(reader: ClipReader, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "wide.mp4", 14, width=1280, height=720, codec="mpeg4")  # 2.8 MB a frame: 12 in 32 MiB
    assert reader.read(str(path), lambda info: range(14), lambda piece: piece.shape).pieces == [
        (12, 720, 1280, 3),
        (2, 720, 1280, 3),
    ]
