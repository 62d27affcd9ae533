"""What the inspector's controls do, without a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mmrl_apps.inspector.address import address, number, parse
from mmrl_apps.inspector.handlers import Handlers, opened
from mmrl_apps.inspector.inspector import Inspector
from mmrl_apps.inspector.runs_page import smoothed
from PIL import Image

from mmrl.data.manifest import read_manifest, write_manifest
from mmrl.errors import RunError
from mmrl.rewards.build import reward_uses
from mmrl.rewards.runtime import RewardScorer
from mmrl.traces.query import Find
from mmrl.traces.writer import TraceWriter, step_path
from mmrl.types import Media, MediaView
from tests.apps.made_run import HOSTILE, RIGHT_BOX, answered, group_of, make_run, make_samples, view_of, write_step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    make_run(runs)
    other = runs / "other"
    shutil.copytree(runs / "made", other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("learning_rate: 0.001", "learning_rate: 0.1"))
    return runs


@pytest.fixture(scope="module")
def inspector(folder: Path) -> Iterator[Inspector]:
    made = Inspector([folder / "made", folder / "other"])
    made.refresh()
    yield made
    made.close()


@pytest.fixture(scope="module")
def handlers(inspector: Inspector) -> Handlers:
    return Handlers(inspector)


def place(inspector: Inspector, step: int, sample: str, run: str = "made") -> tuple[int, int]:
    (row,) = inspector.run(run).index.find(Find(steps=(step, step), sample_id=sample))[0]
    return row.step, row.place


# ── opening ──


def test_a_folder_of_runs_opens_them_all(folder: Path):
    assert Inspector([folder]).names == ["made", "other"]  # `media` is no run


def test_runs_of_one_name_are_told_apart(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "made", tmp_path / "elsewhere" / "made")
    assert Inspector([folder / "made", tmp_path / "elsewhere" / "made"]).names == ["made", "elsewhere/made"]


def test_where_there_is_no_run_it_says_what_to_do(tmp_path: Path):
    with pytest.raises(RunError, match="mmrl run CONFIG"):
        Inspector([tmp_path])
    with pytest.raises(RunError, match="no such run folder"):
        Inspector([tmp_path / "nowhere"])


def test_a_manifest_alone_can_be_browsed(folder: Path):
    made = Inspector([folder / "media" / "manifest.jsonl"])
    handlers = Handlers(made)
    (manifest,) = handlers.manifests(None)
    assert "scene.png" in handlers.data(None, manifest).html
    assert "No run is open" in handlers.status(None)


# ── Runs ──


def test_curves_of_two_runs_with_the_warning_on_the_axis(handlers: Handlers):
    chart, note, link = handlers.curves(["made", "other"], ["reward/accuracy_mean", "reward/total_mean"], 0.5, "step")
    assert note == ""
    assert chart is not None
    lines = [trace for trace in chart.data if trace.mode != "markers"]
    assert {trace.name for trace in lines} == {"made", "other"}
    assert any("95% of the groups" in str(trace.hovertext) for trace in chart.data)
    assert [shape.x0 for shape in chart.layout.shapes] == [1] * 4
    assert parse({"tab": "runs"})["tab"] == "runs"
    assert "runs=made%2Cother" in link


def test_without_a_run_or_a_metric_the_page_says_what_to_choose(handlers: Handlers):
    assert "Choose a run" in handlers.curves([], [], 0, "step")[1]
    assert "Choose a metric" in handlers.curves(["made"], [], 0, "step")[1]


def test_smoothing_is_an_average_that_starts_at_the_first_value():
    assert smoothed([1.0, 3.0, float("nan"), 3.0], 0.5) == pytest.approx([1.0, 7 / 3, 7 / 3, (0.25 + 1.5 + 3) / 1.75])
    assert smoothed([1.0, 3.0], 0.0) == [1.0, 3.0]


def test_warnings_and_differences(handlers: Handlers):
    assert "docs/failures/no-signal.md" in handlers.warnings(["made"])
    told = handlers.differences(["made", "other"])
    assert "train.learning_rate" in told
    assert "0.1" in told
    assert "rewards" not in told  # those are equal
    assert "run.name" not in told  # always another
    assert "Choose two runs" in handlers.differences(["made"])
    assert "Correctness of sampled" in handlers.readings(["reward/accuracy_mean", "no/such"])


# ── Groups ──


def test_the_list_says_what_is_odd_and_links_to_each_group(handlers: Handlers, inspector: Inspector):
    listed = handlers.groups("made", {})
    assert listed.count == 7
    step, at = place(inspector, 1, "span-1")
    assert f'data-open="{step}:{at}"' in listed.html
    assert f"?tab=group&amp;run=made&amp;step={step}&amp;place={at}" in listed.html
    for word in ("one lucky", "all equal", "filter: all correct", "media: truncated image"):
        assert word in listed.html


@pytest.mark.parametrize(
    ("values", "samples"),
    [
        ({"task": "span"}, {"span-1"}),
        ({"text": "WIDE"}, {"box-1"}),
        ({"odd": "reasoning contradicts answer"}, {"choice-1"}),
        ({"part": "iou", "part_from": "0.3"}, {"box-1"}),
        ({"outcome": "all correct"}, {"choice-2"}),
        ({"first": 2, "last": "2", "pass_to": 0.6}, {"box-1"}),
        ({"sample": "torn"}, {"torn-1"}),
    ],
)
def test_the_controls_narrow_it(handlers: Handlers, values: dict[str, Any], samples: set[str]):
    listed = handlers.groups("made", values)
    for name in ("box-1", "span-1", "choice-1", "choice-2", "torn-1"):
        assert (name in listed.html) == (name in samples)
    assert "tab=groups" in listed.address
    for name in values:
        assert name in listed.address


def test_what_makes_no_sense_is_said_in_place(handlers: Handlers):
    assert "exchange the two" in handlers.groups("made", {"first": 5, "last": 1}).html
    assert "Did you mean" in handlers.groups("mode", {}).html
    assert "None of the 7 groups fits" in handlers.groups("made", {"text": "zebra"}).html
    assert handlers.groups("made", {}, page=99).page == 0


def test_a_selection_becomes_a_manifest_that_can_be_read(handlers: Handlers, tmp_path: Path):
    file, trouble = handlers.selection("made", {"task": "choice"})
    assert trouble == ""
    body = json.loads(file)
    path = tmp_path / body["name"]
    path.write_text(body["text"])
    samples = read_manifest(path)
    assert {sample.id for sample in samples} == {"choice-1", "choice-2"}
    assert all(Path(media.path or "").is_file() for sample in samples for media in sample.media)
    assert "Loosen the search" in handlers.selection("made", {"text": "zebra"})[1]


# ── One group ──


def test_a_group_shows_picture_boxes_rewards_and_figures(handlers: Handlers, inspector: Inspector):
    html, link = handlers.group("made", place(inspector, 2, "box-1"))
    assert html.count("<rect") == 4  # gold and three completions
    assert 'x="40.0" y="30.0"' in html
    assert 'x="48.0" y="30.0"' in html  # 300 of 1000 of 160 pixels
    for told in (
        "data:image/png;base64,",
        "✓ right",
        "✗ wrong",
        "iou",
        "× 0.2",
        "advantage",
        "KL per token",
        "cut off",
    ):
        assert told in html
    assert "Where is the red box?" in html
    assert 'data-open="0:0"' in html  # the same sample at step 0
    assert link == "?tab=group&run=made&step=2&place=0"


def test_a_clip_shows_the_frames_the_model_saw_and_spans_on_its_time_line(handlers: Handlers, inspector: Inspector):
    html, _ = handlers.group("made", place(inspector, 1, "span-1"))
    assert html.count('class="mm-frame"') == 6
    assert "6 frames seen by the model; read by pyav" in html
    assert "data:video/mp4;base64," in html
    assert html.count('class="lane') == 3  # gold and the two that are spans
    assert "0.50–1.50 s" in html


@pytest.mark.parametrize(
    "colour", ["advantage", "entropy", "KL", "token weight", "engine correction", "log-probability"]
)
def test_tokens_are_coloured(handlers: Handlers, inspector: Inspector, colour: str):
    html, link = handlers.group("made", place(inspector, 2, "box-1"), colour)
    assert f"{colour} " in html
    assert html.count("background: rgba(") > 50
    assert "colour=" in link
    equal, _ = handlers.group("made", place(inspector, 2, "choice-2"), colour)
    assert ("nothing was learnt from this group" in equal) == (colour != "log-probability")


def test_model_text_is_inert(handlers: Handlers, inspector: Inspector):
    for colour in ("", "log-probability"):
        html, _ = handlers.group("made", place(inspector, 0, "choice-1"), colour)
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "<b>bold" not in html
        assert "${" not in html
        assert "{{" not in html
    assert HOSTILE[:20] not in handlers.groups("made", {"text": "script"}).html


def test_groups_can_be_leafed_through(handlers: Handlers, inspector: Inspector):
    first = handlers.neighbour("made", None, {}, 1)
    assert first == place(inspector, 2, "box-1")
    second = handlers.neighbour("made", first, {}, 1)
    assert second == place(inspector, 2, "choice-2")
    assert handlers.neighbour("made", second, {}, -1) == first
    assert handlers.neighbour("made", first, {}, -1) == first
    assert handlers.neighbour("made", first, {"task": "span"}, 1) == place(inspector, 1, "span-1")


def test_a_group_that_is_not_there_is_said_in_words(handlers: Handlers, inspector: Inspector):
    assert "No group is open" in handlers.group("made", None)[0]
    assert "There is no group at place 7" in handlers.group("made", (0, 7))[0]
    assert "never became a group" in handlers.group("made", place(inspector, 1, "torn-1"))[0]
    assert opened("3:120") == (3, 120)
    assert opened("3") is opened(None) is opened("a:b") is None


def test_media_that_no_manifest_names_are_not_shown(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "made", tmp_path / "made")
    secret = tmp_path / "secret.png"
    shutil.copy(folder / "media" / "scene.png", secret)
    path = step_path(tmp_path / "made" / "traces", 2)
    path.write_text(path.read_text().replace(str(folder / "media" / "scene.png"), str(secret)))
    made = Inspector([tmp_path / "made"])
    made.refresh()
    html, _ = Handlers(made).group("made", place(made, 2, "box-1"))
    assert "secret.png is not shown: no manifest of this run names it" in html
    assert "data:image" not in html
    assert str(tmp_path) not in html


def test_a_group_as_a_file_of_its_own(handlers: Handlers, inspector: Inspector):
    file, trouble = handlers.group_file("made", place(inspector, 2, "box-1"))
    assert trouble == ""
    body = json.loads(file)
    assert body["name"] == "made-step2-box-1.html"
    assert "default-src &#39;none&#39;" in body["text"] or "default-src 'none'" in body["text"]
    assert "<script" not in body["text"]
    assert "<a " not in body["text"]
    assert "http://" not in body["text"].replace("http-equiv", "")


# ── score again ──


def test_a_group_is_scored_again_by_edited_rewards(handlers: Handlers, inspector: Inspector):
    where = place(inspector, 2, "box-1")
    own = handlers.reward_set("made", where)
    assert own == "- {name: iou, weight: 1.0}\n- {name: format, weight: 0.2}\n"
    same = handlers.rescored("made", where, own)
    assert "Mean reward 0.655 → <b>0.655</b>" in same
    assert '<b class="good">' not in same
    strict = handlers.rescored("made", where, "- {name: iou_at, options: {thresholds: [0.5, 0.95]}}")
    assert "iou_at <b>0.5</b>" in strict
    assert '<b class="bad">0.5</b>' in strict
    nothing = handlers.rescored("made", where, "{name: format, weight: 0}")
    assert "nothing would be learnt" in nothing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- {name: iuo}", "Did you mean &#39;iou&#39;?"),
        ("- {name: choice}", "this answer is of type"),
        ("just text", "write a list of rewards"),
        ("- {name: iou", "this is no YAML"),
        ("", "write a list of rewards"),
        ("- {path: 'os:system'}", "runs no other code"),
        ("- {name: judge, options: {url: 'http://169.254.169.254/', model: x}}", "calls an address"),
        ("- {name: iou, weight: many}", "could not"),
        ("x" * 30_000, "longer than"),
    ],
)
def test_a_set_that_cannot_work_is_said_in_words(handlers: Handlers, inspector: Inspector, text: str, told: str):
    html = handlers.rescored("made", place(inspector, 2, "box-1"), text)
    assert "mm-message trouble" in html
    if told != "could not":
        assert told in html


# ── Data ──


def test_a_manifest_is_browsed_by_task_and_difficulty(handlers: Handlers):
    (manifest,) = handlers.manifests("made")
    assert handlers.data("made", manifest).count == 5
    assert handlers.data_tasks("made", manifest) == ["box", "span", "choice"]
    boxes = handlers.data("made", manifest, "box")
    assert boxes.html.count("<rect") == 1
    assert "38% of 8 completions right" in boxes.html
    never = handlers.data("made", manifest, "", "never asked")
    assert never.count == 1
    assert "never-1" in never.html
    assert "choice-2" in handlers.data("made", manifest, "", "always right").html
    assert "fits. Choose another" in handlers.data("made", manifest, "box", "always right").html
    assert handlers.data("made", manifest, text="RED BOX").count == 1


def test_only_the_runs_manifests_are_read(handlers: Handlers, tmp_path: Path):
    other = tmp_path / "other.jsonl"
    other.write_text("{}")
    for path in (str(other), "/etc/passwd", "../made/config.yaml"):
        assert "is no manifest of this run" in handlers.data("made", path).html
    assert "give the manifest on the command line" in handlers.data("made", None).html


def test_a_box_is_drawn_on_the_item_that_the_reward_looks_at_and_the_page_says_so(tmp_path: Path):
    rewards: dict[str, list[dict[str, Any]]] = {"box": [{"name": "iou", "options": {"media": 1}}, {"name": "format"}]}
    sample = make_samples(tmp_path / "media")[0]
    other = str(tmp_path / "media" / "other.png")
    Image.new("RGB", (64, 64)).save(other)
    sample = replace(sample, media=(Media(type="image", path=other), *sample.media))
    write_manifest(tmp_path / "media" / "manifest.jsonl", [sample])
    views = (MediaView(width=64, height=64, spoken_width=1000, spoken_height=1000), *view_of(sample))
    group = group_of(sample, [answered("left", RIGHT_BOX), answered("?", "[0, 0, 9, 9]")], step=0)
    group = replace(
        group,
        prompt=replace(group.prompt, views=views),
        rollouts=tuple(replace(r, completion=replace(r.completion, views=views)) for r in group.rollouts),
    )
    run = tmp_path / "two"
    with RewardScorer(reward_uses(rewards)) as scorer:
        write_step(TraceWriter(run / "traces"), 0, scorer.score([group])[0])
    manifest = tmp_path / "media" / "manifest.jsonl"
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"train": str(manifest)}, "rewards": rewards}))
    made = Inspector([run])
    made.refresh()
    try:
        for html in (
            Handlers(made).group("two", place(made, 0, "box-1", "two"))[0],
            Handlers(made).data("two", str(manifest)).html,
        ):
            first, second = html.split("<figure>")[1:3]
            assert "<rect" not in first
            assert "answers are drawn on this one" not in first
            assert 'x="40.0" y="30.0"' in second
            assert "answers are drawn on this one, item 2 of 2" in second
        assert "1 ✓ right" in Handlers(made).group("two", place(made, 0, "box-1", "two"))[0]
    finally:
        made.close()


# ── Compare ──


def test_two_evaluations_are_compared_sample_by_sample(handlers: Handlers):
    a, b = handlers.usual_sides()
    assert (a, b) == ("made · before", "made · after")
    listed, tasks = handlers.compare(a, b)
    assert tasks == ["box", "span", "choice"]
    assert listed.count == 3
    assert '<b class="good">2</b> <span>won' in listed.html
    assert '<b class="bad">1</b> <span>lost' in listed.html
    assert handlers.compare(a, b, "lost")[0].count == 1
    assert handlers.compare(a, b, "all", "choice")[0].count == 2
    pair = handlers.pair(a, b, "box-1")
    assert "Where is the red box?" in pair
    assert "made · before" in pair
    assert "data:image" in pair
    assert "have no sample" in handlers.pair(a, b, "box-9")


def test_what_both_evaluations_point_at_is_drawn_in_the_original_s_pixels(handlers: Handlers, inspector: Inspector):
    sides = "made · before", "made · after"
    pair = handlers.pair(*sides, "box-1")
    boxes = re.findall(r'data-who="(-?\d+)">\s*<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', pair)
    # The model speaks 0–1000 of a picture 160 pixels wide.
    assert [(who, round(float(x)), round(float(width), 1)) for who, x, _, width in boxes] == [
        ("-1", 40, 60.0),
        ("0", 40, 60.0),
        ("1", 0, 0.2),
    ]
    path = inspector.run("made").folder / "evaluation" / "before.json"
    kept = path.read_text()
    body = json.loads(kept)
    for row in body["rows"]:
        assert bool(row.pop("views")) == (row["task"] in ("box", "span"))
    try:
        path.write_text(json.dumps({**body, "schema": 1}))  # as older versions wrote it
        old = handlers.pair(*sides, "box-1")
    finally:
        path.write_text(kept)
    assert re.findall(r'data-who="(-?\d+)">\s*<rect', old) == ["-1", "1"]
    assert "[250, 250, 625, 667]" in old


def test_moments_of_a_run_are_compared(handlers: Handlers):
    sides = handlers.sides()
    first, last = "made · traces, first time asked", "made · traces, last time asked"
    assert first in sides
    listed, _ = handlers.compare(first, last, "all")
    assert listed.count == 4
    assert handlers.compare(first, last, "won")[0].count == 1  # box-1: a quarter right, then half
    assert "0.5 to 1.5" in handlers.pair(first, last, "span-1")
    assert "Choose two sides" in handlers.compare(None, None)[0].html
    assert "has no evaluation" in handlers.compare("made · nothing", last)[0].html


# ── addresses ──


def test_an_address_brings_the_view_back():
    link = address("groups", {"run": "made", "text": "a b&c=ü", "first": 3.0, "odd": "", "page": None})
    from urllib.parse import parse_qsl

    assert parse(dict(parse_qsl(link[1:]))) == {"tab": "groups", "run": "made", "text": "a b&c=ü", "first": "3"}
    assert "tab" not in parse({"tab": "../../etc", "text": "x" * 5000})
    assert [number(word) for word in ("1.5", "", None, "nan", "inf", "x", True)] == [1.5, *[None] * 6]


def test_an_address_of_another_run_falls_back(handlers: Handlers):
    assert handlers.restored({}) == {"run": "made", "tab": "groups"}
    assert handlers.restored({"run": "gone", "tab": "data"}) == {"run": "made", "tab": "data"}


# ── trouble ──


def test_a_broken_run_shows_messages_not_exceptions(folder: Path, tmp_path: Path):
    run = tmp_path / "broken"
    shutil.copytree(folder / "made", run)
    (run / "config.yaml").write_text("{not yaml")
    (run / "metrics.jsonl").write_text("{broken\n")
    (run / "warnings.jsonl").write_text("[]\n")
    (run / "evaluation" / "after.json").write_text("{}")
    path = step_path(run / "traces", 0)
    path.write_bytes(path.read_bytes()[:400] + b"\n")
    made = Inspector([run])
    made.refresh()
    handlers = Handlers(made)
    assert "1 lines of the traces are damaged" in handlers.status("broken")
    assert "metrics.jsonl:1: this line is no JSON object" in handlers.curves(["broken"], [], 0, "step")[1]
    assert "is no warning" in handlers.warnings(["broken"])
    assert "this line is no JSON object" in handlers.warnings(["broken"])
    assert handlers.groups("broken", {}).count == 5
    assert "is no evaluation result" in handlers.compare("broken · before", "broken · after")[0].html
    assert (
        "No manifest of this run is found"
        in handlers.data("broken", next(iter(handlers.manifests("broken")), None)).html
    )
    where = place(made, 2, "box-1", "broken")
    assert "is not shown: no manifest" in handlers.group("broken", where)[0]
    assert handlers.reward_set("broken", where) == "- {name: iou}\n- {name: format}\n"  # what is usual for a box
    for odd in ("rewards: 5", "rewards: [1]", "rewards: {default: 5}", "rewards: {box: [3, null]}"):
        (run / "config.yaml").write_text(odd)
        assert handlers.reward_set("broken", where) == "- {name: iou}\n- {name: format}\n"
        assert "<table>" in handlers.rescored("broken", where, "- {name: iou}")


def test_an_empty_run_says_what_is_to_come(tmp_path: Path):
    (tmp_path / "new" / "traces").mkdir(parents=True)
    made = Inspector([tmp_path / "new"])
    made.refresh()
    handlers = Handlers(made)
    assert "no traces yet" in handlers.status("new")
    assert "after its first training step" in handlers.groups("new", {}).html
    assert "Choose two sides" in handlers.compare(*handlers.usual_sides())[0].html
