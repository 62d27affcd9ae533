"""Every recipe of a public data set builds from files in its authors' layout, and says which rows it left out."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mmrl.data.manifest import read_manifest
from mmrl.data.media_paths import media_paths
from mmrl.data.recipe import BuildReport, build_recipe
from mmrl.data.recipe_file import known_recipes, load_recipe
from mmrl.errors import DataError, RunError
from mmrl.rewards.build import reward_uses
from mmrl.rewards.gold import gold_completion
from mmrl.rewards.hacks import wrong_completion
from mmrl.types import Answer, Completion, Sample
from tests.data_recipes.built import generated_recipes
from tests.data_recipes.layouts import LAYOUTS, base64_table
from tests.data_recipes.test_worlds import accuracy

# Recipe → (samples per split, reason → rows left out)
EXPECTED: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "seed_bench_r1": ({"train": 2, "validation": 1, "test": 1, "test_hard": 1}, {"no answer": 1}),
    "video_r1": ({"train": 3, "validation": 1, "test": 1}, {"answer is no number": 1}),
    "vsi_bench": ({"test": 3}, {"gold is not above 0": 1}),
    "vsi_100k": ({"train": 4, "validation": 2, "test": 2}, {"answer is no number": 1}),
    "refcoco": ({"train": 6, "test": 3}, {"defective sample": 1}),
    "geometry3k": ({"train": 2, "validation": 1, "test": 1}, {"marks and pictures differ": 1, "no answer": 1}),
    "geoqa": ({"train": 1, "validation": 1, "test": 1}, {"no answer": 1}),
    "clevr_count": ({"train": 2, "validation": 1, "test": 1}, {"no solution": 1}),
    "charades_sta": ({"train": 2, "test": 1}, {"span is reversed": 1, "unreadable line": 1}),
    "activitynet_captions": ({"train": 3, "validation": 1, "test": 1}, {"span is empty": 1}),
    "screenspot": ({"test": 2}, {"answer is no box": 1}),
    "chartqa": ({"train": 6, "validation": 6, "test": 6}, {"missing media": 1}),
    "mathvista": ({"test": 4}, {"answer is no option": 1}),
    "mmmu": ({"test": 3}, {"answer is no option": 1}),
    "sharegpt": ({"train": 2, "validation": 1, "test": 1}, {"marks and media differ": 1}),
    "trl_rows": ({"train": 1, "validation": 1, "test": 1}, {"no answer": 1}),
    "image_folder": ({"train": 4, "validation": 1, "test": 1}, {"answer is no option": 1}),
    "hub_table": ({"train": 2, "validation": 1, "test": 1}, {"no question": 1}),
    "webdataset": ({"train": 1, "validation": 1, "test": 1}, {"no answer": 1}),
}


def built(name: str, folder: Path) -> tuple[BuildReport, list[Sample]]:
    (folder / "theirs").mkdir()
    settings = LAYOUTS[name](folder / "theirs")
    report = build_recipe(name, folder / "ours", settings=settings)
    return report, [sample for path in report.manifests.values() for sample in read_manifest(path)]


def test_every_recipe_is_tested():
    assert set(EXPECTED) == set(LAYOUTS)
    assert set(known_recipes()) == {*EXPECTED, *generated_recipes(), "digits"}


@pytest.mark.parametrize("name", EXPECTED)
def test_it_builds_and_counts_what_it_leaves_out(name, tmp_path):
    report, samples = built(name, tmp_path)
    counts, dropped = EXPECTED[name]
    assert (dict(report.counts), dict(report.dropped)) == (counts, dropped)
    listed = [json.loads(line) for line in (report.folder / "dropped.jsonl").read_text().splitlines()]
    for line in listed:
        file, _, row = line["key"].rpartition(":")
        assert file
        assert row.replace(".", "").isdigit()
        assert line["detail"]
    lock = json.loads((report.folder / "recipe.lock.json").read_text())
    assert lock["inputs"]
    sets = reward_uses(load_recipe(name)[0].rewards)
    for sample in samples:
        for item in sample.media:
            assert item.path is not None
            assert Path(item.path).is_file()
        if sample.answer.type != "choices":
            assert accuracy(_gold(sample, sets), sample, sets) == pytest.approx(1.0), sample
            assert accuracy(Completion(text=wrong_completion(sample)), sample, sets) < 0.95, sample


def test_media_that_stay_where_they_are_are_recorded_and_looked_after(tmp_path):
    report, samples = built("refcoco", tmp_path)
    shown = sorted({path for sample in samples for path in media_paths(sample)})
    listed = [json.loads(line) for line in (report.folder / "media.jsonl").read_text().splitlines()]
    assert listed == [
        {"path": path, "bytes": os.path.getsize(path), "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
        for path in shown
    ]
    settings = LAYOUTS["refcoco"](tmp_path / "theirs")
    assert build_recipe("refcoco", tmp_path / "ours", settings=settings).already_there
    Path(shown[0]).write_bytes(b"another picture")
    with pytest.raises(RunError, match=f"media of .* were changed since.*{Path(shown[0]).name} had .* and has 15"):
        build_recipe("refcoco", tmp_path / "ours", settings=settings)
    sizes = build_recipe("refcoco", tmp_path / "sizes", settings=[*settings, "media_hashes=size"])
    first = json.loads((sizes.folder / "media.jsonl").read_text().splitlines()[0])
    assert first == {"path": shown[0], "bytes": 15}
    lock = json.loads((sizes.folder / "recipe.lock.json").read_text())
    assert "media.jsonl" in lock["files"]


def test_a_data_set_whose_media_are_not_fetched_yet_says_so(tmp_path):
    (tmp_path / "theirs").mkdir()
    settings = [*LAYOUTS["refcoco"](tmp_path / "theirs"), "missing_media=true"]
    for picture in (tmp_path / "theirs").rglob("*.jpg"):
        picture.unlink()
    report = build_recipe("refcoco", tmp_path / "ours", settings=settings)
    listed = [json.loads(line) for line in (report.folder / "media.jsonl").read_text().splitlines()]
    assert {line["bytes"] for line in listed} == {line["sha256"] for line in listed} == {None}
    Path(listed[0]["path"]).write_bytes(b"fetched")
    assert build_recipe("refcoco", tmp_path / "ours", settings=settings).already_there


def _gold(sample: Sample, sets: Any) -> Completion:
    """The gold answer; where a point is asked for, the middle of the box."""
    if sample.task == "point":
        x1, y1, x2, y2 = sample.answer.value
        return Completion(text=f"<answer>[{(x1 + x2) / 2}, {(y1 + y2) / 2}]</answer>")
    return gold_completion(sample)


@pytest.mark.parametrize("name", ["refcoco", "geometry3k", "charades_sta"])
def test_it_builds_the_same_again(name, tmp_path):
    report, _ = built(name, tmp_path)
    settings = LAYOUTS[name](tmp_path / "theirs")
    assert build_recipe(name, tmp_path / "ours", settings=settings).already_there
    again = build_recipe(name, tmp_path / "again", settings=settings)
    for split in report.counts:
        assert (again.folder / f"{split}.jsonl").read_bytes() == (report.folder / f"{split}.jsonl").read_bytes()


def only(samples: list[Sample], key: str) -> Sample:
    (found,) = [sample for sample in samples if sample.metadata["key"].endswith(key)]
    return found


def test_boxes_of_screenspot_become_corners(tmp_path):
    _, samples = built("screenspot", tmp_path)
    assert only(samples, "desktop.json:1").answer == Answer(type="box", value=(1, 2, 5, 5))


def test_letters_are_taken_off_and_options_of_text_become_letters(tmp_path):
    (tmp_path / "vsi").mkdir()
    _, samples = built("vsi_bench", tmp_path / "vsi")
    nearest = only(samples, ":2")
    assert nearest.choices == ("chair", "table", "bed", "lamp")
    assert nearest.answer.value == "B"
    assert str(nearest.media[0].path).endswith("scannet/scene0001_00.mp4")
    (tmp_path / "mv").mkdir()
    _, samples = built("mathvista", tmp_path / "mv")
    assert only(samples, ":1").answer.value == "B"


def test_no_room_is_in_two_splits(tmp_path):
    _, samples = built("vsi_100k", tmp_path)
    homes: dict[str, set[str]] = {}
    for sample in samples:
        homes.setdefault(sample.metadata["scene"], set()).add(sample.metadata["split"])
    assert len(homes) == 4
    assert all(len(splits) == 1 for splits in homes.values())


def test_spans_are_cut_at_the_end_of_the_clip(tmp_path):
    _, samples = built("activitynet_captions", tmp_path)
    assert only(samples, "train.json:1.2").answer == Answer(type="span", value=(10, 30))


def test_a_picture_of_the_test_set_leaves_the_training_set(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    settings = LAYOUTS["refcoco"](theirs)
    annotations = theirs / "rec_jsons_processed"
    val, train = annotations / "refcoco_val.json", annotations / "refcocog_train.jsonl"
    val.write_text(val.read_text().replace(f"{100:012d}", f"{2:012d}"))
    assert f"{2:012d}" in train.read_text()
    report = build_recipe("refcoco", tmp_path / "ours", settings=settings)
    assert report.counts == {"train": 4, "test": 3}
    assert report.dropped["shown in another split"] == 2


def test_a_data_set_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="--set root=FOLDER"):
        build_recipe("refcoco", tmp_path / "out", settings=[f"root={tmp_path / 'none'}"])
    with pytest.raises(DataError, match=r"rec_jsons_processed/refcoco_train\.jsonl does not exist"):
        build_recipe("refcoco", tmp_path / "out", settings=[f"root={tmp_path}"])
    with pytest.raises(DataError, match="cannot be opened"):
        build_recipe("geoqa", tmp_path / "out", settings=[f"hub={{name: {tmp_path / 'none'}}}"])


def test_pictures_in_a_text_table(tmp_path):
    base64_table(tmp_path / "rows.tsv")
    settings = ["hub=null", f"root={tmp_path}", "files=[rows.tsv]", "n_train=1"]
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nbuilder: converted\nsplits: {train: 1}\noptions: {format: columns, hub: {name: x}}\n")
    report = build_recipe(path, tmp_path / "out", settings=settings)
    (sample,) = read_manifest(report.manifests["train"])
    assert sample.answer == Answer(type="number", value=3)
    assert Path(str(sample.media[0].path)).suffix == ".png"
