"""Building data sets: the digits are right, builds are reproducible, and nothing is overwritten or left half done."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mmrl.curation.media_index import Examination
from mmrl.curation.validate import validate_rows
from mmrl.data import recipe as recipe_module
from mmrl.data.images import load_image
from mmrl.data.manifest import read_manifest
from mmrl.data.recipe import build_recipe, write_data_set
from mmrl.data.source import Draft, NewFile, Source
from mmrl.errors import DataError, RunError
from mmrl.progress import SilentProgress
from mmrl.types import Answer, Dropped, Media

SPLITS = {"train": 1300, "validation": 200, "test": 297}


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "digits"
    build_recipe("digits", folder)
    return Path(folder)


def picture_of(sample) -> str:
    assert sample.media[0].path is not None
    return str(sample.media[0].path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_digits_have_the_promised_sizes_and_form(digits):
    for split, count in SPLITS.items():
        samples = read_manifest(digits / f"{split}.jsonl")
        assert len(samples) == count
        assert [sample.id for sample in samples] == [f"digits-{split}-{i:04d}" for i in range(count)]
        for sample in samples:
            assert (sample.task, sample.question) == ("choice", "Which digit is written here?")
            assert sample.choices == tuple("0123456789")
            assert sample.metadata["split"] == split
    names = {path.name for path in digits.iterdir()}
    assert names == {*(f"{split}.jsonl" for split in SPLITS), "dropped.jsonl", "recipe.lock.json", "images", "run.yaml"}


def test_every_label_and_picture_is_that_of_the_source_row(digits):
    source = load_digits()
    for split in SPLITS:
        for sample in read_manifest(digits / f"{split}.jsonl")[::20]:
            row = int(sample.metadata["key"])
            assert sample.answer.value == "ABCDEFGHIJ"[source.target[row]]
            with Image.open(picture_of(sample)) as picture:
                assert picture.mode == "L"
                shown = np.asarray(picture, dtype=float)
            assert shown.shape == (56, 56)
            cells = shown.reshape(8, 7, 8, 7).mean(axis=(1, 3))  # dark ink: the source's 16 is black
            expected = 255 - source.images[row] * 255 / 16
            assert np.corrcoef(cells.ravel(), expected.ravel())[0, 1] > 0.97


def test_every_source_row_is_in_exactly_one_split_and_no_pixels_are_in_two(digits):
    keys: list[str] = []
    pixels: dict[str, str] = {}
    for split in SPLITS:
        for sample in read_manifest(digits / f"{split}.jsonl"):
            keys.append(sample.metadata["key"])
            digest = hashlib.sha256(load_image(picture_of(sample)).tobytes()).hexdigest()
            assert pixels.setdefault(digest, split) == split
    assert sorted(keys) == [f"{row:04d}" for row in range(1797)]


def test_each_digit_has_its_share_in_every_split(digits):
    whole = Counter(load_digits().target.tolist())
    for split, count in SPLITS.items():
        held = Counter(sample.metadata["digit"] for sample in read_manifest(digits / f"{split}.jsonl"))
        for digit, rows in whole.items():
            assert abs(held[digit] - rows * count / 1797) < 3


def test_the_beginning_of_a_split_is_a_fair_sample_of_it(digits):
    first = Counter(sample.metadata["digit"] for sample in read_manifest(digits / "train.jsonl")[:300])
    assert min(first.values()) > 15
    assert len(first) == 10


def test_the_built_manifests_are_sound_down_to_their_pictures(digits):
    report = validate_rows(digits / "test.jsonl", examination=Examination(depth="decode", workers=1))
    assert report.usable == report.rows == report.media_files == 297


def test_two_builds_are_byte_identical_and_another_seed_is_not(digits, tmp_path):
    build_recipe("digits", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(digits)
    other = build_recipe("digits", tmp_path / "other", seed=1)
    assert other.seed == 1
    keys = [[s.metadata["key"] for s in read_manifest(folder / "test.jsonl")] for folder in (digits, other.folder)]
    assert set(keys[0]) != set(keys[1])


def test_building_again_over_the_same_data_set_writes_nothing(digits):
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    report = build_recipe("digits", digits)
    assert report.already_there
    assert dict(report.counts) == SPLITS
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_a_different_data_set_is_not_overwritten(digits):
    with pytest.raises(RunError, match=r"recipe.seed is 0 there and 5 now\. Choose another --out"):
        build_recipe("digits", digits, seed=5)


def test_a_data_set_that_was_changed_by_hand_is_not_taken_for_sound(tmp_path):
    folder = build_recipe(small_recipe(tmp_path), tmp_path / "out").folder
    path = sorted((folder / "images").iterdir())[3]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(RunError, match="images/ differ"):
        build_recipe(tmp_path / "small.yaml", folder)


@pytest.mark.parametrize("kind", ["file", "folder", "damaged lock"])
def test_what_is_in_the_way_stays(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        if kind == "damaged lock":
            (out / "recipe.lock.json").write_text("{")
    with pytest.raises(RunError, match="nothing was changed"):
        build_recipe("digits", out)
    assert (out if kind == "file" else out / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    assert not build_recipe(small_recipe(tmp_path), tmp_path / "out").already_there


def small_recipe(folder: Path) -> Path:
    path = folder / "small.yaml"
    path.write_text(
        "name: small\nbuilder: digits\nsplits: {train: 0.9, test: 0.1}\noptions: {size: 8, ink: light, limit: 90}\n"
    )
    return path


def test_options_change_the_pictures(tmp_path):
    folder = build_recipe(small_recipe(tmp_path), tmp_path / "out").folder
    sample = read_manifest(folder / "test.jsonl")[0]
    with Image.open(picture_of(sample)) as picture:
        shown = np.asarray(picture, dtype=float)
    cells = load_digits().images[int(sample.metadata["key"])]
    assert np.abs(shown - cells * 255 / 16).max() <= 0.5  # light ink: 16 is white; not resized


def test_the_lock_says_what_was_built_from_what(digits):
    lock = json.loads((digits / "recipe.lock.json").read_text())
    assert lock["counts"] == SPLITS
    assert lock["dropped"] == {}
    assert lock["recipe"]["options"]["size"] == 56
    assert list(lock["inputs"]) == ["sklearn/datasets/data/digits.csv.gz"]
    assert {"mmrl", "python", "pillow", "scikit-learn"} == set(lock["versions"])
    assert lock["files"]["train.jsonl"] == hashlib.sha256((digits / "train.jsonl").read_bytes()).hexdigest()


def test_newer_packages_do_not_disown_a_data_set(tmp_path):
    folder = build_recipe(small_recipe(tmp_path), tmp_path / "out").folder
    lock = json.loads((folder / "recipe.lock.json").read_text())
    lock["versions"]["pillow"] = "1.0"
    (folder / "recipe.lock.json").write_text(json.dumps(lock))
    assert build_recipe(tmp_path / "small.yaml", folder).already_there


def test_a_failing_build_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise DataError("the disk is full of sand")

    monkeypatch.setattr(recipe_module, "folder_digests", fail)
    small_recipe(tmp_path)
    with pytest.raises(DataError, match="sand"):
        build_recipe(tmp_path / "small.yaml", tmp_path / "out")
    assert os.listdir(tmp_path) == ["small.yaml"]


class Listening(SilentProgress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_killed_build_leaves_no_data_set_and_the_next_one_says_what_it_left(tmp_path):
    code = (
        "import os, mmrl.data.recipe as r\n"
        "r.folder_digests = lambda folder: os.kill(os.getpid(), 9)\n"
        f"r.build_recipe({str(small_recipe(tmp_path))!r}, {str(tmp_path / 'out')!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert not (tmp_path / "out").exists()
    heard = Listening()
    assert not build_recipe(tmp_path / "small.yaml", tmp_path / "out", progress=heard).already_there
    assert len(heard.notes) == 1
    assert "was killed" in heard.notes[0]


def test_a_build_that_another_process_finished_first_is_taken_over(tmp_path, monkeypatch):
    path = small_recipe(tmp_path)
    rename = os.rename

    def late(source, target):
        if Path(target).name == "out":
            monkeypatch.setattr(os, "rename", rename)
            assert not build_recipe(path, tmp_path / "out").already_there
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert build_recipe(path, tmp_path / "out").already_there
    assert sorted(os.listdir(tmp_path)) == ["out", "small.yaml"]


# --- the parts that every builder shares -----------------------------------------------------------------------------


def draft(key, content=b"", answer="A", **changes) -> Draft:
    fields = {
        "key": key,
        "task": "choice",
        "question": "Which?",
        "choices": ("x", "y"),
        "answer": Answer(type="choice", value=answer),
        "media": (NewFile(type="image", content=content or key.encode(), suffix=".png"),),
    }
    return Draft(**{**fields, **changes})


def written(folder, *rows, shares=None, seed=0):
    source = Source(rows=iter(rows), total=len(rows), inputs={})
    counts, dropped = write_data_set(source, folder, name="w", shares=shares or {"a": 1, "b": 1}, seed=seed)
    samples = {split: read_manifest(folder / f"{split}.jsonl") for split in counts}
    lines = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    return samples, dropped, lines


@pytest.mark.parametrize("seed", range(6))
def test_questions_about_the_same_picture_share_its_file_and_its_split(tmp_path, seed):
    rows = [draft(f"{i}", b"same" if i < 3 else b"", question=f"Which {i}?") for i in range(9)]
    samples, dropped, _ = written(tmp_path / "out", *rows, seed=seed)
    assert dropped == {}
    homes = {s.metadata["key"]: (split, s.media[0].path) for split, found in samples.items() for s in found}
    assert homes["0"] == homes["1"] == homes["2"]
    assert Path(homes["0"][1]).read_bytes() == b"same"
    assert len(list((tmp_path / "out" / "images").iterdir())) == 7


@pytest.mark.parametrize("seed", range(6))
def test_rows_of_a_group_share_a_split(tmp_path, seed):
    rows = [draft(f"{i}", group=f"scene {i // 3}") for i in range(18)]
    samples, _, _ = written(tmp_path / "out", *rows, seed=seed)
    for found in samples.values():
        assert all(count == 3 for count in Counter(int(s.metadata["key"]) // 3 for s in found).values())


def test_repeated_rows_are_dropped_and_contradictions_altogether(tmp_path):
    rows = [
        draft("one"),
        draft("two"),
        draft("copy of one", b"one"),
        draft("says A", b"picture", "A"),
        draft("says B", b"picture", "B"),
        Dropped(sample_id="bad", stage="media", reason="truncated image", detail="bad.jpg cannot be decoded."),
    ]
    samples, dropped, lines = written(tmp_path / "out", *rows)
    assert sorted(s.metadata["key"] for found in samples.values() for s in found) == ["one", "two"]
    assert dropped == {"contradictory answers": 2, "duplicate": 1, "truncated image": 1}
    assert {line["key"]: line["reason"] for line in lines} == {
        "bad": "truncated image",
        "copy of one": "duplicate",
        "says A": "contradictory answers",
        "says B": "contradictory answers",
    }
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2  # no file of a dropped row


def test_several_files_of_a_row_and_files_elsewhere_are_kept_in_order(tmp_path):
    elsewhere = Media(type="video", path="/films/v.mp4", start=1.0)
    clip = NewFile(type="video", content=b"clip", suffix=".mp4", options={"fps": 2.0, "end": 3.0})
    picture = NewFile(type="image", content=b"picture", suffix=".jpg")
    samples, _, _ = written(tmp_path / "out", draft("k", media=(clip, elsewhere, picture)), shares={"train": 1})
    made = samples["train"][0].media
    videos, images = tmp_path / "out" / "videos", tmp_path / "out" / "images"
    assert made == (
        Media(type="video", path=str(videos / "w-train-0000-0.mp4"), fps=2.0, end=3.0),
        elsewhere,
        Media(type="image", path=str(images / "w-train-0000-2.jpg")),
    )


def test_a_defect_of_the_builder_is_said_before_anything_is_used(tmp_path):
    with pytest.raises(DataError, match="two rows the key 'k'"):
        written(tmp_path / "keys", draft("k"), draft("k"))
    with pytest.raises(DataError, match="names option Z"):
        written(tmp_path / "rows", draft("k", answer="Z"), shares={"train": 1})
    with pytest.raises(DataError, match="all 1 were dropped"):
        written(tmp_path / "none", Dropped(sample_id="a", stage="filter", reason="no answer"))
