"""The report of a run folder: its numbers, its page, what it does without, and that the page is inert."""

import base64
import json
import math
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mmrl.errors import RunError
from mmrl.evaluation.result import read_result
from mmrl.report.build import build_report
from mmrl.report.completions import gold_text, segments
from mmrl.report.curves import draw_charts, nice_ticks
from mmrl.report.picks import pick_groups
from mmrl.report.pictures import pictures_of
from mmrl.traces.reader import TraceReader
from mmrl.traces.writer import TraceWriter
from mmrl.types import Answer, Media, MediaView
from tests.clips import write_clip
from tests.report.fake_run import FACTS, make_run
from tests.traces.fakes import choice_sample, scored_group


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(finished, tmp_path / "fake"))


class Page(HTMLParser):
    """Tags and attributes of a page, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_the_numbers_are_those_of_the_evaluations(run: Path) -> None:
    body = build_report(run, facts=FACTS)
    assert body == json.loads((run / "report.json").read_text())
    before, after = (read_result(run / "evaluation" / f"{name}.json") for name in ("before", "after"))
    task = body["tasks"]["digits"]
    assert task["before"]["accuracy"]["value"] == before.tasks["digits"].accuracy.value
    assert task["after"]["accuracy"]["low"] == after.tasks["digits"].accuracy.low
    assert task["after"]["pass_at"]["4"]["value"] == after.tasks["digits"].pass_at[4].value
    gain = after.overall.accuracy.value - before.overall.accuracy.value
    assert task["comparison"]["difference"]["value"] == pytest.approx(gain)
    assert len(task["comparison"]["won"]) - len(task["comparison"]["lost"]) == round(10 * gain)
    assert body["facts"] == FACTS
    assert body["training"]["steps"] == 6
    assert body["training"]["peak_mib"] == 1505
    assert body["training"]["metrics"]["policy/entropy_mean"]["last"] < 0.4
    assert body["training"]["seconds"]["step"] == pytest.approx(6 * 0.85, abs=0.3)
    assert len(body["config_sha256"]) == 64
    assert body["cold_start"]["metrics"]["sft/loss"]["first"] == 3.0
    assert body["missing"] == []


def test_the_page_shows_figures_curves_pictures_and_completions(run: Path) -> None:
    build_report(run, facts=FACTS)
    page = page_of(run)
    after = read_result(run / "evaluation" / "after.json").tasks["digits"].accuracy
    assert f"{100 * after.value:.1f} %" in page.text
    assert len(page.named("polyline")) >= 8
    pictures = [image["src"] or "" for image in page.named("img")]
    assert len(pictures) >= 3
    for source in pictures:
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(BytesIO(base64.b64decode(content))).size == (56, 56)
    for words in (
        "Early",
        "Late",
        "Cold start",
        "3 min 06 s",
        "Which digit is written here?",
        "advantage",
        "gold:",
        "1.79 GiB",
        "2.13.0",
    ):
        assert words in page.text
    shown = {group.group.sample.id for group in pick_groups(TraceReader(run))}
    assert all(name in page.text for name in shown)


def test_the_page_holds_no_script_and_loads_nothing(run: Path) -> None:
    build_report(run, facts=FACTS)
    page = page_of(run)
    assert not page.named("script")
    assert not page.named("link")
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag
    (policy,) = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "url(" not in (run / "report.html").read_text()


def test_what_models_and_data_say_is_text(run: Path) -> None:
    """Completions, questions, choices, ids, reward names and details, config, facts: none of it becomes markup."""
    attack = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'><b>"
    sample = choice_sample("evil" + attack)
    object.__setattr__(sample, "question", "question" + attack)
    object.__setattr__(sample, "choices", ("choice" + attack, "b"))
    group = scored_group(sample, ["completion" + attack, f"<think>{attack}</think><answer>{attack}</answer>"])
    for result in group.results:
        result["choice"].details["note" + attack] = "details" + attack  # type: ignore[index]
    shutil.rmtree(run / "traces")
    TraceWriter(run / "traces").write(0, [group], advantages=[[1.0, -1.0]])
    (run / "config.yaml").write_text("name: " + attack)
    build_report(run, facts={"seed" + attack: attack, "stages": {attack: {"seconds": 1.0, "peak_mib": 1.0}}})
    page = page_of(run)
    assert not page.named("script")
    assert not page.named("b" + attack)
    assert [image for image in page.named("img") if image.get("src") == "x" or "onerror" in image] == []
    for where in ("evil", "question", "choice", "completion", "details", "seed", "name: "):
        assert where + attack in page.text, where


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("config.yaml", "config.yaml is not there"),
        ("metrics.jsonl", "there are no curves"),
        ("evaluation/before.json", "nothing to compare with"),
        ("evaluation/after.json", "the trained model was not evaluated"),
        ("traces", "there are no completions to show"),
    ],
)
def test_a_missing_part_is_named_and_the_rest_reported(run: Path, gone: str, said: str) -> None:
    if (run / gone).is_dir():
        shutil.rmtree(run / gone)
    else:
        (run / gone).unlink()
    body = build_report(run, facts={})
    assert len(body["missing"]) == 1
    assert said in body["missing"][0]
    assert said in page_of(run).text


def test_a_run_without_a_cold_start_says_so_and_misses_nothing(run: Path) -> None:
    (run / "cold_start.jsonl").unlink()
    body = build_report(run, facts={})
    assert (body["cold_start"], body["missing"]) == (None, [])
    assert "The run had no cold start." in page_of(run).text


def test_an_empty_run_folder_gives_a_report_that_says_so(tmp_path: Path) -> None:
    body = build_report(tmp_path, facts={})
    assert len(body["missing"]) == 5
    assert body["tasks"] == {}
    assert body["training"] is None
    assert "has to do without" in page_of(tmp_path).text
    with pytest.raises(RunError, match="no such run folder"):
        build_report(tmp_path / "nowhere", facts={})


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "evaluation/after.json", "traces/step_000000.jsonl", "warnings.jsonl"]
)
def test_a_damaged_part_is_named_and_the_rest_reported(run: Path, name: str) -> None:
    before = (run / name).read_bytes() if (run / name).exists() else b""
    (run / name).write_bytes(b"\x00not json\n" + before)
    (missing,) = build_report(run, facts={})["missing"]
    assert name in missing
    assert "cannot be used" in missing


def test_what_the_watcher_saw_is_reported(run: Path) -> None:
    assert build_report(run, facts={})["warnings"] == []
    warned = {"step": 7, "trouble": "no_signal", "message": "95% of <all>", "link": "docs/failures/no-signal.md"}
    (run / "warnings.jsonl").write_text(json.dumps(warned) + "\n")
    assert build_report(run, facts={})["warnings"] == [warned]
    assert "step 7: no signal: 95% of <all>. What to try: docs/failures/no-signal.md" in page_of(run).text


def test_evaluations_of_different_samples_are_shown_side_by_side_but_not_compared(run: Path) -> None:
    path = run / "evaluation" / "before.json"
    path.write_text(path.read_text().replace('"digits-', '"other-'))
    body = build_report(run, facts={})
    assert body["tasks"]["digits"]["comparison"] is None
    assert body["tasks"]["digits"]["before"] is not None
    assert "no sample in common" in body["missing"][0]


def test_metrics_that_are_not_finite_leave_a_gap(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[2] = re.sub(r'("policy/entropy_mean": )[\d.]+', r"\1null", lines[2])
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    body = build_report(run, facts={})
    assert math.isfinite(body["training"]["metrics"]["policy/entropy_mean"]["first"])
    assert "nan" not in (run / "report.html").read_text().lower()


def test_odd_groups_are_found(tmp_path: Path) -> None:
    right, wrong = "<answer>B</answer>", "<answer>A</answer>"
    writer = TraceWriter(tmp_path / "traces")
    for step in range(3):
        groups = [scored_group(choice_sample(f"even{step}"), [right, wrong, right, "B"], step=step)]
        if step == 1:
            groups += [
                scored_group(choice_sample("lucky"), [wrong, right, wrong], step=step),
                scored_group(choice_sample("hollow"), [wrong, wrong, wrong], step=step),
            ]
        writer.write(step, groups, advantages=[[0.0] * len(group.totals) for group in groups])
    picks = pick_groups(TraceReader(tmp_path))
    assert [(pick.title, pick.group.sample.id) for pick in picks] == [
        ("Early", "even0"),
        ("Middle", "even1"),
        ("Late", "even2"),
        ("One lucky", "lucky"),
        ("Form without substance", "hollow"),
    ]


def test_reasoning_and_answer_are_told_apart() -> None:
    def parts(text: str) -> list[tuple[str, str]]:
        return [(segment.kind, segment.text) for segment in segments(text)]

    assert parts("<think> a\nb </think>\n<answer>B</answer>") == [("reasoning", "a\nb"), ("answer", "B")]
    assert parts("so <answer>B</answer> there") == [("other", "so"), ("answer", "B"), ("other", "there")]
    assert parts("<think>never closed <answer>B</answer>") == [("other", "<think>never closed"), ("answer", "B")]
    assert parts("") == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(type="choice", value="B"), "B"),
        (Answer(type="number", value=3.50, unit="m"), "3.5 m"),
        (Answer(type="box", value=(1.0, 2.0, 3.5, 4.0)), "[1.0, 2.0, 3.5, 4.0] (pixels)"),
        (Answer(type="span", value=(3.0, 7.5)), "[3.0, 7.5]"),
    ],
)
def test_gold_in_words(answer: Answer, said: str) -> None:
    assert gold_text(answer) == said


def test_pictures_are_scaled_kept_or_replaced_by_words(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 600)).save(tmp_path / "large.png")
    Image.new("L", (8, 8), 200).save(tmp_path / "small.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "large.png").read_bytes()[:200])
    frames = tuple(str(tmp_path / "small.png") for _ in range(13))
    media = [
        Media(type="image", path=str(tmp_path / name)) for name in ("large.png", "small.png", "torn.png", "no.png")
    ]
    video = Media(type="video", path="/clips/a.mp4", start=3.0)
    large, small, torn, gone, *rest = pictures_of((*media, Media(type="frames", paths=frames, fps=2.0), video))
    assert (large.width, large.height, large.small) == (1200, 600, False)
    assert Image.open(BytesIO(base64.b64decode(large.uri.partition(",")[2]))).size == (480, 240)
    assert Image.open(BytesIO(base64.b64decode(small.uri.partition(",")[2]))).getpixel((0, 0)) == (200, 200, 200)
    assert (small.small, torn.uri, gone.uri) == (True, "", "")
    assert torn.caption.startswith("torn.png cannot be shown")
    assert str(tmp_path) not in torn.caption + gone.caption
    assert [picture.caption[:9] for picture in rest[:-1]] == ["small.png"] * 5
    assert rest[0].caption == "small.png (frame 1 of 13), 8 × 8"
    assert rest[-1].caption == "Video a.mp4, from 3 s to its end (not shown here)"


def test_of_a_clip_some_of_the_frames_the_model_saw_are_shown(tmp_path: Path) -> None:
    media = Media(type="video", path=str(write_clip(tmp_path / "a.mp4", 24)))
    frames = (0, 3, 6, 10, 13, 16, 20, 23)
    view = MediaView(
        width=96, height=64, spoken_width=84, spoken_height=56, frames=frames, seconds=tuple(i / 8 for i in frames)
    )
    shown = pictures_of((media,), (view,))
    assert [picture.caption for picture in shown] == [
        "a.mp4 (frame 1 of the 8 seen, at 0.0 s), 96 × 64",
        "a.mp4 (frame 3 of the 8 seen, at 0.8 s), 96 × 64",
        "a.mp4 (frame 5 of the 8 seen, at 1.6 s), 96 × 64",
        "a.mp4 (frame 7 of the 8 seen, at 2.5 s), 96 × 64",
    ]
    assert all(picture.uri.startswith("data:image/png;base64,") for picture in shown)
    (tmp_path / "a.mp4").write_bytes(b"not any more")
    [gone] = pictures_of((media,), (view,))
    assert gone.caption.startswith("a.mp4 cannot be shown: a.mp4 cannot be opened")


def test_ticks_are_round_and_enclose_the_values() -> None:
    assert nice_ticks(0.31, 1.44) == [0, 0.5, 1, 1.5]
    assert nice_ticks(3, 97) == [0, 50, 100]
    assert nice_ticks(2.0, 2.0) == pytest.approx([1.8, 1.9, 2.0, 2.1, 2.2])
    assert nice_ticks(0.0, 0.0)[0] < 0 < nice_ticks(0.0, 0.0)[-1]


def test_long_runs_are_averaged_in_buckets_and_short_ones_drawn_as_they_are() -> None:
    rows = [{"step": float(step), "reward/total_mean": float(step % 2)} for step in range(1000)]
    (chart,) = draw_charts(rows)
    (curve,) = chart.curves
    assert len(curve.points) <= 120
    assert all(abs(value - 0.5) < 0.1 for _, value in curve.smooth)
    (short,) = draw_charts(rows[:3])
    assert list(short.curves[0].points) == [(0, 0), (1, 1), (2, 0)]
    assert not short.curves[0].smooth
    assert draw_charts([{"step": 0.0}]) == []
    (validation,) = draw_charts([{"step": 1.0, "eval/<b>_accuracy": 0.5}])
    assert "<b>" not in validation.svg
    assert "&lt;b&gt;" in validation.svg
