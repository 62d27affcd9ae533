"""Checking media files, counting, the preview page, and the commands."""

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mmrl.cli.data import app
from mmrl.curation.stats import sample_stats
from mmrl.data.manifest import validate_manifest, write_manifest
from mmrl.data.preview import preview_html
from mmrl.errors import ConfigError, DataError, RunError
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


def test_stats_count_what_is_there():
    one, two = Media(type="image", path="/a.png"), Media(type="frames", paths=("/a.png", "/b.png"), fps=1)
    letters = [
        sample(str(i), answer=Answer(type="choice", value=v), choices=("x", "y", "z"), media=[one])
        for i, v in enumerate("ABA")
    ]
    others = [sample("4", media=[one, two], task="u", metadata={"split": "test"}), sample("5")]
    found = sample_stats([*letters, *others])
    assert found.samples == 5
    assert found.files == 2
    assert list(found.tasks.items()) == [("t", 4), ("u", 1)]
    assert found.answer_types == {"choice": 3, "text": 2}
    assert found.letters == {"A": 2, "B": 1, "C": 0}
    assert found.options == {3: 3}
    assert found.splits == {"test": 1}
    assert found.media == {"1 image": 3, "1 image, 1 list of frames": 1, "text only": 1}


def test_the_preview_escapes_text_shows_the_right_option_and_names_broken_pictures(pictures):
    samples = [
        sample(
            question="<script>alert(1)</script>",
            answer=Answer(type="choice", value="B"),
            choices=("<b>x</b>", "y"),
            media=[image(pictures / "good.png"), image(pictures / "half.png")],
        ),
        sample("b", answer=Answer(type="box", value=(4, 4, 20, 10)), media=[image(pictures / "good.png")]),
        sample("c", answer=Answer(type="number", value=3.5, unit="m"), media=[image(pictures / "gone.png")]),
    ]
    page = preview_html(samples, title="a & b", total=7)
    assert "<script>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert '<li class="right">y ✓</li>' in page
    assert page.count("data:image/png;base64,") == 2
    assert "cannot be decoded" in page
    assert "gone.png does not exist" in page
    assert "3.5 m" in page
    assert "The first 3 of 7 samples." in page


# --- the commands ----------------------------------------------------------------------------------------------------


def run(*arguments: object) -> str:
    """What a command prints on stdout; its errors are raised, as the main command line expects."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_build_validate_stats_and_preview_work_on_each_others_output(tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("name: tiny\nbuilder: digits\nsplits: {train: 9, test: 1}\noptions: {size: 8, limit: 100}\n")
    out = tmp_path / "out"
    assert "90" in run("build", recipe, "--out", out, "--quiet")
    assert "already there" in run("build", recipe, "--out", out, "--quiet")
    with pytest.raises(RunError):
        run("build", recipe, "--out", out, "--seed", "1", "--quiet")
    assert "is sound: 10 samples; every picture was decoded." in run("validate", out / "test.jsonl", "--quiet")
    assert "media were not looked at" in run("validate", out / "test.jsonl", "--no-media")
    assert "10 samples, 10 different media files" in run("stats", out / "test.jsonl")
    assert "tiny-test-0002" in run("preview", out / "test.jsonl", "--limit", "3")
    run("preview", out / "test.jsonl", "--limit", "3", "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<article>") == 3
    with pytest.raises(ConfigError, match="is a folder"):
        run("preview", out / "test.jsonl", "--out", tmp_path)


def test_validate_lists_every_problem_and_fails(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"id": f"s{i}"}) + "\n" for i in range(12)))
    done = CliRunner().invoke(app, ["validate", str(path), "--quiet"])
    assert isinstance(done.exception, DataError)
    assert done.stdout.count("has no 'answer'") == 12
    assert "36 problem(s)" in str(done.exception)


def test_broken_pictures_do_not_fail_validation(pictures):
    write_manifest(pictures / "m.jsonl", [sample(media=[image(pictures / "half.png")])])
    output = run("validate", pictures / "m.jsonl", "--quiet")
    assert "truncated image" in output
    assert "is sound" in output


def test_every_command_has_a_help_page_with_an_example():
    group = typer.main.get_command(app)
    assert set(group.commands) >= {"build", "validate", "stats", "preview"}  # type: ignore[attr-defined]
    for name in group.commands:  # type: ignore[attr-defined]
        assert f"mmrl data {name}" in run(name, "--help")
