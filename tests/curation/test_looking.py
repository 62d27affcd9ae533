"""Statistics by hand, visual tokens as the processors count them, the page of samples, the look at one row."""

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from mmrl.curation.inspect import fields_seen, inspect_row
from mmrl.curation.media_index import Examination
from mmrl.curation.preview import preview_html, preview_manifest, sample_figure
from mmrl.curation.stats import manifest_stats, summary
from mmrl.curation.visual_tokens import FAMILIES, clip_tokens, picture_tokens, resized, sampled_frames
from mmrl.errors import ConfigError, DataError
from mmrl.types import Answer, Media, Sample
from tests.curation.material import choice, clip, command, photo, row, write

HEADERS = Examination(depth="header", workers=1)


def test_statistics_by_hand(tmp_path: Path):
    for i in range(3):
        photo(i, 280, 140).save(tmp_path / f"{i}.png")
    (tmp_path / "empty.png").write_bytes(b"")
    rows = [
        row(f"{i}", image=f"{i % 3}.png", choices=["x", "y", "z"], answer=choice(letter), question="One two three?")
        for i, letter in enumerate("ABAA")
    ]
    rows += [row("text", task="u", metadata={"split": "test"}), row("broken", task="u", image="empty.png")]
    path = write(tmp_path / "all.jsonl", [*rows, "{"])
    found = manifest_stats(path, examination=HEADERS, workers=1)
    assert (found.rows, found.samples, found.files) == (7, 6, 4)
    assert list(found.tasks.items()) == [("t", 4), ("u", 2)]
    assert found.answer_types == {"choice": 4, "text": 2}
    assert found.letters == {"A": 3, "B": 1, "C": 0}
    assert found.options == {"3": 4}
    assert found.splits == {"test": 1}
    assert found.media == {"1 image": 5, "text only": 1}
    assert found.answers["t"] == {"x": 3, "y": 1}
    assert found.broken == {"empty file": 1}
    assert found.quantities["visual tokens, qwen2.5-vl"]["mean"] == 50  # 10 × 5 of 28 × 28 pixels
    assert found.quantities["width, pixels"] == {"count": 4, "mean": 280, "0%": 280, "5%": 280, "25%": 280, "50%": 280,
                                                 "75%": 280, "95%": 280, "100%": 280}  # fmt: skip
    assert found.quantities["words of the question"]["50%"] == 3
    again = manifest_stats(path, workers=2)
    assert again.tasks == found.tasks
    assert again.files == 4


def test_quantiles_by_hand():
    assert summary({1: 9, 10: 1}) == {"count": 10, "mean": 1.9, "0%": 1, "5%": 1, "25%": 1, "50%": 1, "75%": 1,
                                      "95%": 10, "100%": 10}  # fmt: skip


@pytest.mark.parametrize("size", [(280, 140), (10, 2000), (4000, 3000), (5, 5), (1000, 20), (28, 28), (3333, 77)])
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_become_as_many_tokens_as_the_processors_say(size: tuple[int, int], family: str):
    from qwen_vl_utils.vision_process import smart_resize  # type: ignore[import-untyped]

    rule = FAMILIES[family]
    height, width = smart_resize(size[1], size[0], rule.factor, min_pixels=rule.least, max_pixels=rule.most)
    assert resized(*size, rule.factor, rule.least, rule.most) == (width, height)
    assert picture_tokens(*size, rule) == width // rule.factor * (height // rule.factor)


@pytest.mark.parametrize("size", [(280, 140), (4000, 3000), (5, 5), (1000, 20), (3333, 77)])
def test_a_picture_of_lfm2_vl_becomes_as_many_tokens_as_its_processor_says(size: tuple[int, int]):
    from transformers import Lfm2VlImageProcessor

    processor = Lfm2VlImageProcessor()
    shown = processor(images=[Image.new("RGB", size)], do_image_splitting=False, return_tensors="pt")
    height, width = shown["spatial_shapes"][0].tolist()
    assert picture_tokens(*size, FAMILIES["lfm2-vl"]) == height * width // processor.downsample_factor**2


@pytest.mark.parametrize("seconds", [0.5, 3.0, 61.0, 900.0])
def test_clips_show_as_many_frames_as_the_library_says(seconds: float):
    from qwen_vl_utils.vision_process import smart_nframes

    from mmrl.data.video_plan import ClipRules, frame_size

    total = round(seconds * 25)
    frames = sampled_frames(seconds, 25.0, None, None)
    assert frames == smart_nframes({"fps": 2.0, "min_frames": 4, "max_frames": min(768, total)}, total, 25.0)
    rule = FAMILIES["qwen2.5-vl"]
    width, height = frame_size(1280, 720, frames, ClipRules(), factor=28)
    assert clip_tokens(1280, 720, frames, rule) == width // 28 * (height // 28) * frames // 2


def test_the_page_escapes_text_draws_answers_and_names_broken_media(tmp_path: Path):
    photo(1).save(tmp_path / "good.png")
    clip(tmp_path / "film.mp4", 1)
    good = Media(type="image", path=str(tmp_path / "good.png"))
    gone = Media(type="image", path=str(tmp_path / "gone.png"))
    film = Media(type="video", path=str(tmp_path / "film.mp4"))
    samples = [
        Sample(id="a", task="t", question="<script>alert(1)</script>", answer=Answer(type="choice", value="B"),
               choices=("<b>x</b>", "y"), media=(good,)),
        Sample(id="b", task="t", question="q?", answer=Answer(type="box", value=(4, 4, 20, 10)), media=(good,)),
        Sample(id="c", task="t", question="q?", answer=Answer(type="number", value=3.5, unit="m"), media=(gone,)),
        Sample(id="d", task="t", question="q?", answer=Answer(type="span", value=(0.5, 1.0)), media=(film,)),
    ]  # fmt: skip
    page = preview_html(samples, title="a & b", total=7)
    assert "<script>" not in page
    assert '<li class="right">y ✓</li>' in page
    assert page.count("data:image/png;base64,") == 2 + 8
    assert "gone.png does not exist" in page
    assert "3.5 m" in page
    assert 'left:25.00%;width:25.00%"' in page  # of a clip of two seconds
    assert page.count('class="inside"') == 2  # of eight frames, those in the span
    assert "4 of 7 samples." in page
    assert page == preview_html(samples, title="a & b", total=7)


@pytest.mark.parametrize(
    ("answer", "corners"),
    [
        (Answer(type="box", value=(10, 20, 60, 50)), (40, 80, 240, 200)),
        (Answer(type="box", value=(0.1, 0.25, 0.6, 0.5), space="unit"), (32, 80, 192, 160)),
        (
            Answer(type="boxes", value=((100, 250, 200, 500), (500, 250, 600, 750)), space="norm1000"),
            (32, 80, 192, 240),
        ),
        (Answer(type="point", value=(40, 40)), (156, 156, 164, 164)),
        (Answer(type="boxes", value=()), None),
        (Answer(type="number", value=3), None),
    ],
)
def test_answers_are_drawn_where_they_are(tmp_path: Path, answer: Answer, corners: tuple[int, ...] | None):
    """80 × 80 pixels, shown four times as large."""
    Image.new("RGB", (80, 80), "white").save(tmp_path / "a.png")
    picture = Media(type="image", path=str(tmp_path / "a.png"))
    figure = sample_figure(Sample(id="a", task="t", question="?", answer=answer, media=(picture,)))
    content = base64.b64decode(figure.partition("base64,")[2].partition('"')[0])
    drawn = Image.open(io.BytesIO(content)).convert("RGB").getchannel("G").point(lambda g: 255 - g)
    found = drawn.getbbox()
    assert (found is None) == (corners is None)
    if found is not None and corners is not None:
        left, top, right, bottom = found
        assert max(abs(a - b) for a, b in zip((left, top, right - 1, bottom - 1), corners, strict=True)) <= 1
    both = sample_figure(Sample(id="a", task="t", question="?", answer=answer, media=(picture, picture)))
    assert ("not drawn" in both) == (answer.type != "number")


def test_the_page_shows_what_is_asked_for_and_replaces_no_folder(tmp_path: Path):
    path = write(tmp_path / "all.jsonl", [row(f"{i}", task="ab"[i % 2]) for i in range(10)])
    page = tmp_path / "page.html"
    assert preview_manifest(path, page, limit=3, where='task == "b"', dry_run=True) == 3
    assert not page.exists()
    preview_manifest(path, page, limit=3, where='task == "b"', shuffle=1)
    assert page.read_text().count("<article>") == 3
    assert "b · text" in page.read_text()
    assert "a · text" not in page.read_text()
    with pytest.raises(ConfigError, match="is a folder"):
        preview_manifest(path, tmp_path)
    with pytest.raises(DataError, match="no sound row fits"):
        preview_manifest(path, page, where='task == "c"')


def test_the_fields_of_a_manifest_and_everything_about_a_row(tmp_path: Path):
    photo(1, 280, 140).save(tmp_path / "a.png")
    rows = [row(f"s{i}", image="a.png", metadata={"n": i}) for i in range(5)]
    rows.append(row("box", image="a.png", answer={"type": "box", "value": [4, 100, 20, 270]}))
    path = write(tmp_path / "all.jsonl", [*rows, '{"id": "bad"}'])
    seen, looked = fields_seen(path)
    assert looked == 7
    by_name = {one.name: one for one in seen}
    assert by_name["media[].path"].rows == 6
    assert by_name["metadata.n"].kinds == {"a number": 5}
    found = inspect_row(path, id_="box")
    told = dict(found.fields)
    assert found.line == 6
    assert "280×140 pixels; visual tokens: qwen2-vl 50, qwen2.5-vl 50" in told["image"]
    assert "swap them" in told["does not fit"]
    assert "data:image/png" in found.figure
    bad = inspect_row(path, line=7)
    assert any("has no 'answer'" in defect for defect in bad.defects)
    with pytest.raises(DataError, match="Did you mean 's1'"):
        inspect_row(path, id_="s1x")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photo(1).save(tmp_path / "a.png")
    path = write(
        tmp_path / "all.jsonl", [row(f"s{i}", image="a.png", choices=["x", "y"], answer=choice("A")) for i in range(60)]
    )
    quiet = ("--quiet", "--workers", "1")
    assert command("stats", path, "--out", tmp_path / "st", "--dry-run", *quiet) == 0
    assert not (tmp_path / "st").exists()
    assert command("stats", path, "--out", tmp_path / "st", *quiet) == 0
    assert json.loads((tmp_path / "st" / "stats.json").read_text())["letters"] == {"A": 60, "B": 0}
    assert (tmp_path / "st" / "stats.html").read_text().count("data:image/png") > 5
    assert command("stats", path, "--out", tmp_path / "st", *quiet) == 2
    assert command("preview", path, "--limit", "2", *quiet) == 0
    assert command("inspect", path, "--id", "s3", "--out", tmp_path / "i.html") == 0
    capsys.readouterr()
    assert command("bias", path, "--out", tmp_path / "bias.json", *quiet) == 0
    printed = capsys.readouterr().out
    assert "position" in printed
    assert "found" in printed
    found = json.loads((tmp_path / "bias.json").read_text())["shortcuts"]
    assert [s["kind"] for s in found if s["found"]] == ["position"]
