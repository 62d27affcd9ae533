"""What may be uploaded: few, small, real pictures and clips, and nothing from anywhere else on the disk."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mmrl_apps.demo.uploads import Limits, Shown, Uploads, container
from PIL import Image

from mmrl.errors import MediaError
from tests.clips import write_clip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploaded")


@pytest.fixture(scope="module")
def uploads(root: Path) -> Iterator[Uploads]:
    """One pair of decoding processes for all tests here."""
    made = Uploads(root, limits=Limits(files=3, file_bytes=2**20, pixels=250_000, clip_seconds=5.0))
    yield made
    made.close()


def admit(uploads: Uploads, folder: Path, *paths: Path) -> list[Shown]:
    return uploads.admit([str(path) for path in paths], folder, {})


def refusal(uploads: Uploads, folder: Path, *paths: Path) -> str:
    with pytest.raises(MediaError) as error:
        admit(uploads, folder, *paths)
    assert str(folder) not in str(error.value), "messages go to visitors: no path of this machine"
    return str(error.value)


def test_a_picture_is_written_anew_upright_and_under_our_own_name(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    turned = Image.fromarray(np.arange(40 * 20 * 3, dtype=np.uint8).reshape(20, 40, 3))
    exif = turned.getexif()
    exif[0x0112] = 6  # shown turned by 90°
    turned.save(root / "holiday.jpg", exif=exif)
    [shown] = admit(uploads, tmp_path, root / "holiday.jpg")
    assert (shown.name, shown.width, shown.height) == ("holiday.jpg", 20, 40)
    assert shown.media.path == str(tmp_path / "0000.png")
    with Image.open(tmp_path / "0000.png") as copy:
        assert (copy.format, copy.size, copy.mode) == ("PNG", (20, 40), "RGB")


def test_a_clip_is_copied_and_measured(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    write_clip(root / "a.mov", 16, fps=8)
    [shown] = admit(uploads, tmp_path, root / "a.mov")
    assert (shown.media.type, shown.width, shown.height, shown.seconds) == ("video", 96, 64, 2.0)
    assert shown.media.path == str(tmp_path / "0000.mp4")


def test_an_admitted_file_is_not_decoded_again(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "once.png")
    known: dict[str, Shown] = {}
    first = uploads.admit([str(root / "once.png")], tmp_path, known)
    (root / "once.png").write_bytes(b"gone")
    assert uploads.admit([str(root / "once.png")], tmp_path, known) == first


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "/etc/passwd.png"])
def test_files_that_were_not_uploaded_are_refused(uploads: Uploads, root: Path, tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(root.parent / "secret.png")
    with pytest.raises(MediaError, match="was not uploaded here"):
        uploads.admit([str(root / name)], tmp_path, {})


def test_a_link_out_of_the_folder_is_refused(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    os.symlink(tmp_path / "mine.png", root / "link.png")
    assert "was not uploaded here" in refusal(uploads, tmp_path, root / "link.png")


def test_too_many_and_too_large_files_are_refused(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    assert "4 files are too many" in refusal(uploads, tmp_path, *[root / f"{i}.png" for i in range(4)])
    (root / "large.png").write_bytes(bytes(2**20 + 1))
    assert "large.png has 1 MiB; 1 MiB are the most" in refusal(uploads, tmp_path, root / "large.png")


def test_a_decompression_bomb_is_refused_by_its_header(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    """A PNG of a few kilobytes that says it is 60,000 × 60,000 pixels; and one within Pillow's own limit."""
    for width, height in ((60_000, 60_000), (5_000, 5_000)):
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(3 * width + 1) * 8)), (b"IEND", b"")]
        body = b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        (root / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        assert "bomb.png cannot be used: too many pixels" in refusal(uploads, tmp_path, root / "bomb.png")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("page.html", b"<script>alert(1)</script>", "neither a picture nor a clip"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "neither a picture nor a clip"),
        ("page.png", b"<script>alert(1)</script>", "unknown format"),
        ("print.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unknown format"),
        ("empty.png", b"", "empty file"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "does not begin like a clip"),
        ("list.mkv", b"ffconcat version 1.0\nfile '/etc/passwd'\n", "does not begin like a clip"),
        ("noise.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 4, "cannot be used"),
    ],
)
def test_what_is_no_picture_or_clip_is_refused(
    uploads: Uploads, root: Path, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (root / name).write_bytes(content)
    assert said in refusal(uploads, tmp_path, root / name)
    assert not list(tmp_path.iterdir()), "nothing of it stays"


def test_a_clip_that_is_too_long_is_refused(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    write_clip(root / "long.mp4", 48, fps=8)
    assert "long.mp4 is 6 s long; 5 s are the most" in refusal(uploads, tmp_path, root / "long.mp4")


def test_a_killed_decoder_is_started_again(uploads: Uploads, root: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "small.png")
    admit(uploads, tmp_path, root / "small.png")
    assert uploads._child is not None
    uploads._child.kill()
    assert admit(uploads, tmp_path, root / "small.png")[0].width == 8


def test_a_decoder_that_is_late_is_killed(root: Path, tmp_path: Path) -> None:
    """Its time is over before it begins."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)).save(root / "slow.png")
    hasty = Uploads(root, limits=Limits(deadline_seconds=0.0))
    try:
        assert "slow.png was not decoded within 0 s" in refusal(hasty, tmp_path, root / "slow.png")
        assert hasty._child is None
    finally:
        hasty.close()


def test_containers_are_known_by_their_first_bytes(root: Path) -> None:
    write_clip(root / "b.mp4", 4)
    shutil.copy(root / "b.mp4", root / "b.txt")
    assert container(root / "b.txt") == ".mp4"
    write_clip(root / "b.mkv", 4)
    assert container(root / "b.mkv") == ".mkv"
    write_clip(root / "b.avi", 4, codec="mpeg4")
    assert container(root / "b.avi") == ".avi"
