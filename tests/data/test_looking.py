"""Checking media files, and the commands."""

from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mmrl.cli.data import app
from mmrl.data.manifest import validate_manifest, write_manifest
from mmrl.errors import RunError
from mmrl.types import Answer, Media, Sample


def sample(id_="a", *, answer=None, media=(), **changes) -> Sample:
    return Sample(
        id=id_,
        task=changes.get("task", "t"),
        question=changes.get("question", "q?"),
        answer=answer or Answer(type="text", value="x"),
        media=tuple(media),
        choices=changes.get("choices", ()),
        metadata=changes.get("metadata", {}),
    )


def image(path: Path) -> Media:
    return Media(type="image", path=str(path))


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder with a good, a truncated and an empty picture, and an empty video."""
    Image.new("RGB", (40, 20), "red").save(tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "empty.mp4").write_bytes(b"")
    return Path(tmp_path)


def checked(folder: Path, *samples: Sample):
    write_manifest(folder / "m.jsonl", samples)
    return validate_manifest(folder / "m.jsonl", check_media=True)


def test_missing_media_are_problems_and_broken_media_are_counted_by_reason(pictures):
    report = checked(
        pictures,
        sample("good", media=[image(pictures / "good.png")]),
        sample("half", media=[image(pictures / "half.png")]),
        sample("empty", media=[image(pictures / "empty.png")]),
        sample("again", media=[Media(type="frames", paths=(str(pictures / "empty.png"),) * 2, fps=1)]),
        sample("clip", media=[Media(type="video", path=str(pictures / "empty.mp4"))]),
        sample("gone", media=[image(pictures / "gone.png")]),
        sample("gone clip", media=[Media(type="video", path=str(pictures / "gone.mp4"))]),
    )
    assert [problem.sample_id for problem in report.problems] == ["gone", "gone clip"]
    assert report.problems[0].where.endswith("m.jsonl:6")
    assert "does not exist" in report.problems[0].message
    assert report.broken_reasons == {"truncated image": 1, "empty file": 4}
    assert [problem.sample_id for problem in report.broken_media] == ["half", "empty", "again", "again", "clip"]


def test_reading_without_media_opens_no_file(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [sample(media=[image(tmp_path / "gone.png")])])
    assert validate_manifest(tmp_path / "m.jsonl", check_media=False).sound


@pytest.mark.parametrize(
    ("answer", "sound"),
    [
        (Answer(type="box", value=(0, 0, 40, 20)), True),
        (Answer(type="box", value=(0, 0, 40.9, 20)), True),  # rounding of annotations
        (Answer(type="box", value=(0, 0, 42, 20)), False),
        (Answer(type="box", value=(0, 0, 1, 1), space="unit"), True),
        (Answer(type="boxes", value=((0, 0, 4, 4), (0, 0, 4, 30))), False),
        (Answer(type="point", value=(40, 20)), True),
        (Answer(type="point", value=(20, 40)), False),
    ],
)
def test_pixel_coordinates_are_compared_with_the_pictures_size(pictures, answer, sound):
    report = checked(pictures, sample(answer=answer, media=[image(pictures / "good.png")]))
    assert report.sound is sound
    if not sound:
        assert "lies outside the picture of 40×20 pixels" in report.problems[0].message


def test_coordinates_are_compared_with_the_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    tall = Answer(type="box", value=(0, 0, 20, 40))
    assert checked(tmp_path, sample(answer=tall, media=[image(tmp_path / "turned.jpg")])).sound


# --- the commands ----------------------------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    """What a command prints on stdout; its errors are raised, as the main command line expects."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_build_again_changes_nothing_and_another_seed_is_refused(tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("name: tiny\nbuilder: digits\nsplits: {train: 9, test: 1}\noptions: {size: 8, limit: 100}\n")
    out = tmp_path / "out"
    assert "90" in run("build", recipe, "--out", out, "--quiet")
    assert "already there" in run("build", recipe, "--out", out, "--quiet")
    with pytest.raises(RunError):
        run("build", recipe, "--out", out, "--seed", "1", "--quiet")


def test_every_command_has_a_help_page_with_an_example():
    group = typer.main.get_command(app)
    assert set(group.commands) >= {"build", "validate", "stats", "preview"}  # type: ignore[attr-defined]
    for name in group.commands:  # type: ignore[attr-defined]
        assert f"mmrl data {name}" in run(name, "--help")
