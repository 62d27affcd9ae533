"""Only media that a manifest names are opened, however a path is spelled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mmrl_apps.shared.guard import MediaGuard
from mmrl_apps.shared.pictures import show_media
from PIL import Image

from mmrl.errors import DataError
from mmrl.types import Media


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name in ("named", "other"):
        Image.new("RGB", (30, 20), "red").save(tmp_path / f"{name}.png")
    row = {"id": "a", "task": "t", "question": "?", "answer": {"type": "text", "value": "x"}}
    rows = [
        {**row, "media": [{"type": "image", "path": "named.png"}]},
        {**row, "id": "b", "media": [{"type": "frames", "paths": ["f/1.png", "f/2.png"], "fps": 2}]},
        "no row",
        {**row, "id": "c", "media": [5, None]},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\nbroken {\n")
    return path


def test_what_the_manifest_names_is_shown(manifest: Path):
    item = Media(type="image", path=str(manifest.parent / "named.png"))
    (shown,) = show_media([item], (), MediaGuard([manifest]))
    assert shown.broken == ""
    assert shown.size == (30, 20)
    assert shown.pictures[0].uri.startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    "spelling",
    ["{0}/other.png", "{0}/x/../other.png", "/etc/passwd", "named.png", "{0}/named.png/../../../etc/passwd", ""],
)
def test_nothing_else_is(manifest: Path, spelling: str):
    path = spelling.format(manifest.parent)
    (shown,) = show_media([Media(type="image", path=path)], (), MediaGuard([manifest]))
    assert shown.pictures == ()
    assert "no manifest of this run names it" in shown.broken
    assert str(manifest.parent) not in shown.broken  # pages are passed on: no folders


def test_a_name_that_is_not_utf_8_is_known(manifest: Path):
    name = os.fsdecode(b"caf\xe9.png")
    with manifest.open("a") as file:
        file.write(json.dumps({"media": [{"type": "image", "path": name}]}) + "\n")
    MediaGuard([manifest]).check_path(str(manifest.parent / name))


def test_every_frame_of_a_list_must_be_named(manifest: Path):
    guard = MediaGuard([manifest])
    root = manifest.parent
    guard.check(Media(type="frames", paths=(str(root / "f/1.png"), str(root / "f/2.png"))))
    with pytest.raises(DataError, match="no manifest"):
        guard.check(Media(type="frames", paths=(str(root / "f/1.png"), "/etc/passwd")))


def test_a_manifest_that_grows_or_goes_is_noticed(manifest: Path):
    guard = MediaGuard([manifest])
    other = str(manifest.parent / "other.png")
    with pytest.raises(DataError):
        guard.check_path(other)
    with manifest.open("a") as file:
        file.write(json.dumps({"media": [{"type": "image", "path": "other.png"}]}) + "\n")
    guard.check_path(other)
    manifest.unlink()
    with pytest.raises(DataError):
        guard.check_path(other)


def test_a_broken_picture_is_said_in_words(manifest: Path):
    (manifest.parent / "named.png").write_bytes(b"\x89PNG not really")
    (shown,) = show_media([Media(type="image", path=str(manifest.parent / "named.png"))], (), MediaGuard([manifest]))
    assert shown.broken.startswith("named.png ")
