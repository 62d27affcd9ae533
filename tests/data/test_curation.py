"""Leaving out repetitions and dividing manifests, as functions and as commands."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmrl.cli.data import app
from mmrl.curation.decontaminate import decontaminate
from mmrl.curation.dedup import dedup
from mmrl.data.manifest import read_manifest, write_manifest
from mmrl.data.split import parse_shares, split_samples
from mmrl.errors import ConfigError, DataError, RunError
from mmrl.types import Answer, Media, Sample


def sample(id_, *paths, value="A", question="q?", type_="choice", **metadata) -> Sample:
    return Sample(
        id=id_,
        task="t",
        question=question,
        answer=Answer(type=type_, value=value),
        media=tuple(Media(type="image", path=path) for path in paths),
        choices=("x", "y", "z"),
        metadata=metadata,
    )


SAME = {"/a": 1, "/b": 2, "/copy-of-a": 1, "/like-b": 3}
ALIKE = {"/a": 1, "/b": 2, "/copy-of-a": 1, "/like-b": 2}


def outcome(*samples, alike=None):
    kept, dropped = dedup(samples, SAME, alike)
    return [s.id for s in kept], {d.sample_id: d.reason for d in dropped}


def test_of_equal_samples_the_first_stays():
    found = outcome(sample("1", "/a"), sample("2", "/b"), sample("3", "/copy-of-a", question=" q? "))
    assert found == (["1", "2"], {"3": "duplicate"})


def test_another_question_other_choices_or_more_media_are_no_repetition():
    rows = (
        sample("1", "/a"),
        sample("2", "/a", question="r?"),
        sample("3", "/a", "/a"),
        sample("4"),
        sample("5", "/b"),
    )
    assert outcome(*rows) == (["1", "2", "3", "4", "5"], {})


def test_of_contradictory_samples_none_stays():
    found = outcome(sample("1", "/a"), sample("2", "/b"), sample("3", "/copy-of-a", value="B"))
    assert found == (["2"], {"1": "contradictory answers", "3": "contradictory answers"})


def test_sets_of_letters_agree_in_any_order():
    first = sample("1", "/a", type_="choices", value=("A", "B"))
    assert outcome(first, sample("2", "/a", type_="choices", value=("B", "A"))) == (["1"], {"2": "duplicate"})


def test_clips_of_one_film_are_told_apart_by_their_time():
    clips = [Media(type="video", path="/a", start=start, end=start + 2) for start in (0.0, 2.0)]
    rows = [
        Sample(id=str(i), task="t", question="q?", answer=Answer(type="text", value="x"), media=(clip,))
        for i, clip in enumerate(clips)
    ]
    assert outcome(*rows) == (["0", "1"], {})


def test_lookalikes_are_repetitions_only_where_their_answers_agree():
    rows = (sample("1", "/b"), sample("2", "/like-b"), sample("3", "/like-b", question="r?"))
    assert outcome(*rows) == (["1", "2", "3"], {})
    assert outcome(*rows, alike=ALIKE) == (["1", "3"], {"2": "near duplicate"})
    counted = (sample("1", "/b", value="A"), sample("2", "/like-b", value="B"))
    assert outcome(*counted, alike=ALIKE) == (["1", "2"], {})


def test_training_samples_that_show_a_held_out_picture_are_left_out_whatever_they_ask():
    train = [
        sample("1", "/a", question="r?"),
        sample("2", "/b"),
        sample("3", "/b", "/copy-of-a"),
        sample("4", question="How many?"),
        sample("5", question="how  MANY?"),
        sample("6", question="q?"),
    ]
    held_out = [sample("t1", "/a"), sample("t2", question="How many?"), sample("t3", "/broken")]
    kept, dropped = decontaminate(train, held_out, SAME)
    assert [s.id for s in kept] == ["2", "6"]
    assert {d.sample_id: (d.reason, d.detail) for d in dropped} == {
        "1": ("media of the evaluation set", "shared with t1 of the evaluation set"),
        "3": ("media of the evaluation set", "shared with t1 of the evaluation set"),
        "4": ("question of the evaluation set", "shared with t2 of the evaluation set"),
        "5": ("question of the evaluation set", "shared with t2 of the evaluation set"),
    }


def test_samples_of_one_picture_or_one_group_are_never_divided():
    rows = [sample(f"{i}", f"/p{i // 2}", scene=i // 6, value="ABC"[i % 3]) for i in range(60)]
    names = {f"/p{i}": i for i in range(30)}
    for key, size in ((None, 2), ("scene", 6)):
        divided = split_samples(rows, {"train": 0.8, "test": 0.2}, names, group_key=key, seed=3)
        assert {name: len(its) for name, its in divided.items()} == {"train": 48, "test": 12}
        homes = {s.id: name for name, its in divided.items() for s in its}
        assert all(homes[f"{i}"] == homes[f"{i // size * size}"] for i in range(60))
        assert all(s.metadata["split"] == name for name, its in divided.items() for s in its)


def test_right_options_are_spread_over_the_splits():
    rows = [sample(f"{i}", value="AAAB"[i % 4]) for i in range(200)]
    divided = split_samples(rows, {"train": 1, "test": 1}, {}, seed=0)
    for its in divided.values():
        assert abs(Counter(s.answer.value for s in its)["B"] - 25) <= 1


def test_a_sample_without_the_group_key_is_named():
    with pytest.raises(DataError, match="sample '2' has no metadata 'scene'"):
        split_samples([sample("1", scene=3), sample("2")], {"a": 1}, {}, group_key="scene", seed=0)


def test_shares_are_read():
    assert parse_shares("train=0.8, test=2") == {"train": 0.8, "test": 2.0}


@pytest.mark.parametrize(
    "text", ["", "train", "train=", "train=0", "train=nan", "train=-1", "Train=1", "a=1,a=2", "dropped=1"]
)
def test_wrong_shares_are_refused(text):
    with pytest.raises(ConfigError):
        parse_shares(text)


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path) -> Path:
    """Ten pictures; each asked about twice in the same words, the second time as a JPEG; one more is broken."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(10):
        picture = Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((64, 64))
        for suffix in ("png", "jpg"):
            picture.save(tmp_path / f"{i}.{suffix}")
            rows.append(sample(f"{i}-{suffix}", str(tmp_path / f"{i}.{suffix}")))
    (tmp_path / "broken.png").write_bytes(b"")
    rows.append(sample("broken", str(tmp_path / "broken.png")))
    write_manifest(tmp_path / "all.jsonl", rows)
    return Path(tmp_path / "all.jsonl")


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments), "--quiet"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def reasons(path: Path) -> Counter[str]:
    return Counter(json.loads(line)["reason"] for line in path.read_text().splitlines())


def test_dedup_writes_what_stays_and_why_the_rest_does_not(manifest, tmp_path):
    assert "20 samples" in run("dedup", manifest, "--out", tmp_path / "exact.jsonl")
    assert "10 samples" in run("dedup", manifest, "--out", tmp_path / "near.jsonl", "--near", "4")
    assert [s.id for s in read_manifest(tmp_path / "near.jsonl")] == [f"{i}-png" for i in range(10)]
    assert reasons(tmp_path / "exact.dropped.jsonl") == {"empty file": 1}
    assert reasons(tmp_path / "near.dropped.jsonl") == {"empty file": 1, "near duplicate": 10}


def test_dedup_overwrites_nothing_and_writes_no_empty_manifest(manifest, tmp_path):
    with pytest.raises(RunError, match="not overwritten"):
        run("dedup", manifest, "--out", manifest)
    write_manifest(tmp_path / "bad.jsonl", [sample("broken", str(tmp_path / "broken.png"))])
    with pytest.raises(DataError, match="no sample is left"):
        run("dedup", tmp_path / "bad.jsonl", "--out", tmp_path / "left.jsonl")
    assert not (tmp_path / "left.jsonl").exists()


def test_decontaminate_finds_lookalikes_of_the_evaluation_set(manifest, tmp_path):
    everything = read_manifest(manifest)
    tested = [s for s in everything if s.id in ("0-png", "1-jpg", "2-png")]
    write_manifest(tmp_path / "test.jsonl", tested[:2])
    write_manifest(tmp_path / "more.jsonl", tested[2:])
    against = ("--against", tmp_path / "test.jsonl", "--against", tmp_path / "more.jsonl")
    assert "17 samples" in run("decontaminate", manifest, *against, "--out", tmp_path / "equal.jsonl")
    assert "14 samples" in run("decontaminate", manifest, *against, "--out", tmp_path / "near.jsonl", "--near", "4")
    left = {s.id.split("-")[0] for s in read_manifest(tmp_path / "near.jsonl")}
    assert left == {str(i) for i in range(3, 10)}
    assert reasons(tmp_path / "near.dropped.jsonl") == {"empty file": 1, "media of the evaluation set": 6}


def test_split_keeps_lookalikes_on_one_side(manifest, tmp_path):
    out = tmp_path / "splits"
    assert "16" in run("split", manifest, "--out", out, "--near", "4", "--shares", "train=8,test=2")
    homes = {s.id: name for name in ("train", "test") for s in read_manifest(out / f"{name}.jsonl")}
    assert Counter(homes.values()) == {"train": 16, "test": 4}
    assert all(homes[f"{i}-png"] == homes[f"{i}-jpg"] for i in range(10))
    assert reasons(out / "dropped.jsonl") == {"empty file": 1}
    with pytest.raises(RunError, match="not overwritten"):
        run("split", manifest, "--out", out, "--shares", "train=8,test=2")


def test_a_missing_picture_ends_the_command(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [sample("a", str(tmp_path / "none.png"))])
    with pytest.raises(DataError, match="does not exist"):
        run("dedup", tmp_path / "m.jsonl", "--out", tmp_path / "x.jsonl")
