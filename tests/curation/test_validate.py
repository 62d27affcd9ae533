"""What `mmrl data validate` says of each kind of file and of answers beside it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmrl.curation.media_index import Examination
from mmrl.curation.validate import Finding, Validation, validate_rows
from tests.clips import write_clip, write_sound
from tests.curation.material import row, write


def looked(folder: Path, *rows: dict[str, Any]) -> tuple[Validation, list[Finding]]:
    found: list[Finding] = []
    path = write(folder / "m.jsonl", rows)
    return validate_rows(path, examination=Examination(depth="decode", workers=1), on_finding=found.append), found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good, a truncated and an empty picture, a good, a truncated and an empty clip, and one of sound alone."""
    folder = tmp_path_factory.mktemp("files")
    Image.new("RGB", (40, 20), "red").save(folder / "good.png")
    (folder / "half.png").write_bytes((folder / "good.png").read_bytes()[:60])
    (folder / "empty.png").write_bytes(b"")
    whole = write_clip(folder / "good.mp4", 16)
    (folder / "cut.mp4").write_bytes(whole.read_bytes()[:-200])
    write_sound(folder / "sound.mp4")
    (folder / "empty.mp4").touch()
    return Path(folder)


def test_missing_and_broken_media_are_told_apart_by_line_and_counted_by_reason(pictures: Path) -> None:
    report, found = looked(
        pictures,
        row("good", image="good.png"),
        row("half", image="half.png"),
        row("empty", image="empty.png"),
        row("frames", media=[{"type": "frames", "paths": ["empty.png", "good.png", "empty.png"], "fps": 1}]),
        row("gone", image="gone.png"),
        row("clip", video="good.mp4"),
        row("part", media=[{"type": "video", "path": "good.mp4", "start": 1.0, "end": 1.9}]),
        row("cut", video="cut.mp4"),
        row("sound", video="sound.mp4"),
        row("empty clip", video="empty.mp4"),
        row("gone clip", video="gone.mp4"),
    )
    assert [(f.line, f.id, f.kind, f.reason) for f in found] == [
        (2, "half", "media", "truncated image"),
        (3, "empty", "media", "empty file"),
        (4, "frames", "media", "empty file"),
        (5, "gone", "media", "missing file"),
        (8, "cut", "media", "truncated video"),
        (9, "sound", "media", "no video stream"),
        (10, "empty clip", "media", "empty file"),
        (11, "gone clip", "media", "missing file"),
    ]
    assert report.found["media"] == Counter(f.reason for f in found)
    assert (report.rows, report.usable) == (11, 3)
    assert all("gone" not in f.id or "does not exist" in f.message for f in found if f.id)


def test_without_media_no_file_is_opened(tmp_path: Path) -> None:
    report = validate_rows(write(tmp_path / "m.jsonl", [row("a", image="gone.png")]), examination=None)
    assert (report.usable, report.media_files) == (1, 0)


@pytest.mark.parametrize(
    ("type_", "value", "space", "reason"),
    [
        ("box", [0, 0, 40, 20], None, None),
        ("box", [0, 0, 40.9, 20], None, None),  # rounding of annotations
        ("box", [0, 0, 42, 20], None, "outside the picture"),
        ("box", [0, 0, 1, 1], "unit", None),
        ("box", [0, 0, 999, 999], "norm1000", None),
        ("boxes", [[0, 0, 4, 4], [0, 0, 4, 30]], None, "swapped axes"),
        ("boxes", [[0, 0, 4, 4], [0, 0, 44, 30]], None, "outside the picture"),
        ("boxes", [], None, None),
        ("point", [40, 20], None, None),
        ("point", [20, 40], None, "swapped axes"),
        ("point", [60, 70], None, "outside the picture"),
    ],
)
def test_pixel_coordinates_are_compared_with_the_pictures_size(
    pictures: Path, type_: str, value: list[Any], space: str | None, reason: str | None
) -> None:
    answer = {"type": type_, "value": value} | ({"space": space} if space else {})
    report, found = looked(pictures, row("a", image="good.png", answer=answer), row("b", image="good.png"))
    assert [f.reason for f in found] == ([reason] if reason else [])
    assert report.usable == 2 - len(found)
    assert all("lies outside the picture of 40×20 pixels" in f.message for f in found)


def test_coordinates_are_compared_with_the_upright_size_and_with_the_clips(pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(pictures / "turned.jpg", exif=exif)
    tall, beyond = {"type": "box", "value": [0, 0, 20, 40]}, {"type": "box", "value": [0, 0, 120, 90]}
    _, found = looked(pictures, row("t", image="turned.jpg", answer=tall), row("c", video="good.mp4", answer=beyond))
    assert [(f.id, f.reason) for f in found] == [("c", "outside the picture")]
    assert "96×64" in found[0].message


def test_times_are_compared_with_the_clips_length(pictures: Path) -> None:
    _, found = looked(
        pictures,
        row("inside", video="good.mp4", answer={"type": "span", "value": [0.5, 1.5]}),
        row("beyond", video="good.mp4", answer={"type": "spans", "value": [[0.1, 0.5], [1, 30]]}),
        row("late", media=[{"type": "video", "path": "good.mp4", "start": 7.0}]),
        row("sizes", media=[{"type": "frames", "paths": ["good.png", "good.png", "turned.jpg"], "fps": 1}]),
    )
    assert [(f.id, f.reason) for f in found] == [
        ("beyond", "span beyond the clip"),
        ("late", "start beyond the end"),
        ("sizes", "frames of different sizes"),
    ]


def test_a_file_is_judged_as_what_each_row_shows_it_as(pictures: Path) -> None:
    report, found = looked(
        pictures,
        row("picture", image="good.png"),
        row("picture as clip", video="good.png"),
        row("clip as picture", image="good.mp4"),
        row("clip", video="good.mp4"),
        row("both", media=[{"type": "image", "path": "good.mp4"}, {"type": "video", "path": "good.mp4"}]),
    )
    assert [(f.id, f.reason) for f in found] == [
        ("clip as picture", "unknown format"),
        ("both", "unknown format"),
    ]
    assert report.usable == 3  # a picture is also a clip of one frame
