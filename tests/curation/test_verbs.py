"""What each verb writes: dry runs, the same bytes for any number of workers, paths, ids, and exit codes."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmrl.curation.decontaminate import decontaminate_manifest
from mmrl.curation.dedup import dedup_manifests
from mmrl.curation.filter import filter_manifest
from mmrl.curation.media_names import MediaMatch
from mmrl.curation.mix import mix_manifests
from mmrl.curation.report import Report
from mmrl.curation.select import Choice, select_samples
from mmrl.curation.shards import shards_of
from mmrl.curation.split import split_manifest
from mmrl.curation.validate import validate_rows
from mmrl.curation.workers import run_killable
from mmrl.data.manifest import read_manifest
from mmrl.errors import ConfigError, DataError, RunError
from tests.curation.material import choice, command, ids, photo, read, reasons, row, write

BY_PATH = MediaMatch(by="path", workers=1)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixty questions about twenty pictures of five scenes, three letters; six repeat others; two broken lines."""
    lines: list[Any] = []
    for i in range(60):
        lines.append(
            row(
                f"s-{i:02}",
                image=f"pictures/{i // 3}.png",
                question=f"What number {i} is it?",
                choices=["x", "y", "z"],
                answer=choice("AAB"[i % 3]),
                metadata={"scene": i // 12, "pass_rate": i % 5 / 4},
            )
        )
    lines += [{**lines[i], "id": f"again-{i}"} for i in range(0, 60, 10)]
    return write(tmp_path / "in" / "all.jsonl", [*lines[:7], "{broken", *lines[7:], json.dumps({"id": "odd"})])


Verb = Callable[[Path, Path, int, bool], Report]
VERBS: dict[str, Verb] = {
    "filter": lambda m, out, w, dry: filter_manifest(
        m, "metadata.pass_rate > 0.2", out / "a.jsonl", workers=w, dry_run=dry
    ),
    "dedup": lambda m, out, w, dry: dedup_manifests(
        [m], out / "a.jsonl", match=MediaMatch(by="path", workers=w), near_text=0.9, dry_run=dry
    ),
    "split": lambda m, out, w, dry: split_manifest(
        m, out / "b", {"train": 8, "test": 2}, group="scene", match=MediaMatch(by="path", workers=w), dry_run=dry
    ),
    "mix": lambda m, out, w, dry: mix_manifests([m], out / "a.jsonl", total=30, seed=3, workers=w, dry_run=dry),
    "select": lambda m, out, w, dry: select_samples(
        m, out / "a.jsonl", Choice(by="variance", count=20, balance="answer"), workers=w, dry_run=dry
    ),
    "decontaminate": lambda m, out, w, dry: decontaminate_manifest(
        m, [held_out(m)], out / "a.jsonl", match=MediaMatch(by="path", workers=w), dry_run=dry
    ),
    "validate": lambda m, out, w, dry: validated(m, out / "a.jsonl", w, dry),
}


def held_out(manifest: Path) -> Path:
    """An evaluation set that shows two of the pictures."""
    rows = [row("t1", image="pictures/3.png"), row("t2", image="pictures/7.png")]
    return write(manifest.with_name("held.jsonl"), rows)


def validated(manifest: Path, out: Path, workers: int, dry_run: bool) -> Report:
    report = validate_rows(manifest, examination=None, out=out, workers=workers, dry_run=dry_run).report
    assert report is not None
    return report


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_bytes_come_out_again_with_more_workers_and_other_shards(
    verb: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = manifest.read_bytes()
    first = VERBS[verb](manifest, tmp_path / "1", 1, False)
    monkeypatch.setattr("mmrl.curation.scan.shards_of", lambda file: shards_of(file, size=2000))
    second = VERBS[verb](manifest, tmp_path / "2", 2, False)
    assert files(tmp_path / "1") == files(tmp_path / "2") != {}
    assert first.dropped == second.dropped
    assert manifest.read_bytes() == before
    for path in first.written:
        assert len(read_manifest(path)) == first.written[path]


@pytest.mark.parametrize("verb", VERBS)
def test_a_dry_run_counts_the_same_and_writes_nothing(verb: str, manifest: Path, tmp_path: Path):
    dry = VERBS[verb](manifest, tmp_path / "out", 1, True)
    assert not (tmp_path / "out").exists()
    wet = VERBS[verb](manifest, tmp_path / "out", 1, False)
    assert dry.dry_run
    assert (dry.rows, dry.written, dry.dropped) == (wet.rows, wet.written, wet.dropped)
    assert wet.rows == 68
    with pytest.raises(RunError, match="not overwritten"):
        VERBS[verb](manifest, tmp_path / "out", 1, False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_row_is_written_or_listed_with_its_line(verb: str, manifest: Path, tmp_path: Path):
    report = VERBS[verb](manifest, tmp_path / "out", 1, False)
    assert report.kept + sum(report.dropped.values()) == report.rows
    assert report.listed is not None
    listed = read(report.listed)
    assert {line["line"] for line in listed if line["reason"] == "defective row"} == {8, 68}
    assert all(set(line) == {"file", "line", "id", "reason", "detail"} for line in listed)
    broken = next(line for line in listed if line["line"] == 8)
    assert "not JSON" in broken["detail"]


def test_rows_stay_as_they_stand_in_the_same_folder_and_paths_follow_into_another(manifest: Path, tmp_path: Path):
    inside, outside = manifest.with_name("kept.jsonl"), tmp_path / "out" / "kept.jsonl"
    filter_manifest(manifest, "images == 1", inside, workers=1)
    filter_manifest(manifest, "images == 1", outside, workers=1)
    lines = manifest.read_text().splitlines()
    assert inside.read_text().splitlines() == [line for line in lines if "question" in line]
    assert [s.media for s in read_manifest(inside)] == [s.media for s in read_manifest(outside)]
    above = tmp_path / "above.jsonl"
    filter_manifest(manifest, "images == 1", above, workers=1)
    assert read(above)[0]["media"][0]["path"] == "in/pictures/0.png"


def test_a_split_divides_no_scene_and_spreads_the_letters(manifest: Path, tmp_path: Path):
    rows = [
        row(
            f"r{i}", image=f"{i // 2}.png", metadata={"scene": i // 6}, choices=["x", "y"], answer=choice("AAAB"[i % 4])
        )
        for i in range(240)
    ]
    path = write(tmp_path / "all.jsonl", rows)
    for group, size in (("", 2), ("scene", 6)):
        out = tmp_path / f"by {group}"
        report = split_manifest(path, out, {"train": 0.75, "test": 0.25}, group=group, match=BY_PATH)
        assert list(report.written.values()) == [180, 60]
        homes = {id_: name for name in ("train", "test") for id_ in ids(out / f"{name}.jsonl")}
        assert all(homes[f"r{i}"] == homes[f"r{i // size * size}"] for i in range(240))
        letters = Counter(line["answer"]["value"] for line in read(out / "test.jsonl"))
        assert abs(letters["B"] - 15) <= size
        assert {line["metadata"]["split"] for line in read(out / "test.jsonl")} == {"test"}
    other = tmp_path / "other seed"
    split_manifest(path, other, {"train": 0.75, "test": 0.25}, seed=1, match=BY_PATH)
    assert set(ids(other / "test.jsonl")) != set(ids(tmp_path / "by " / "test.jsonl"))


def test_a_split_leaves_out_what_has_no_group_and_refuses_an_empty_side(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [row("1", metadata={"scene": 3}), row("2"), row("3", metadata={"scene": 4})])
    split_manifest(path, tmp_path / "out", {"a": 1, "b": 1}, group="scene", match=BY_PATH)
    assert reasons(tmp_path / "out" / "dropped.jsonl") == {"2": "no metadata scene"}
    with pytest.raises(DataError, match="no row is left for split"):
        split_manifest(path, tmp_path / "more", {"a": 1, "b": 1, "c": 1, "d": 1}, match=BY_PATH)


def test_a_mixture_has_exact_counts_and_a_larger_one_holds_the_smaller(tmp_path: Path):
    one = write(tmp_path / "one" / "train.jsonl", [row(f"a{i}", image=f"{i}.png") for i in range(30)])
    two = write(tmp_path / "two" / "train.jsonl", [row(f"a{i}") for i in range(50)])
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    report = mix_manifests([one, two], small, weights=[1, 2], total=20, tag="source", workers=1)
    assert report.figures["counts"] == {"one/train": 7, "two/train": 13}
    mix_manifests([one, two], large, weights=[1, 2], tag="source", workers=1)
    assert Counter(line["metadata"]["source"] for line in read(large)) == {"one/train": 25, "two/train": 50}
    key = [(line["metadata"]["source"], line["question"]) for line in read(small)]
    assert set(key) <= {(line["metadata"]["source"], line["question"]) for line in read(large)}
    assert [source for source, _ in key] != sorted(source for source, _ in key)
    assert len(set(ids(large))) == 75  # ids that both sources use got the source's name
    assert read_manifest(large)[0].id
    exact = mix_manifests([one, two], tmp_path / "exact.jsonl", counts=[5, 3], workers=1)
    assert exact.kept == 8
    with pytest.raises(DataError, match="30 usable rows, and 31 were asked for"):
        mix_manifests([one, two], tmp_path / "x.jsonl", counts=[31, 3], workers=1)
    with pytest.raises(ConfigError, match="2 manifests and 3 weights"):
        mix_manifests([one, two], tmp_path / "x.jsonl", weights=[1, 2, 3], workers=1)


def test_dedup_across_splits_keeps_the_manifest_that_is_named_first(tmp_path: Path):
    test = write(
        tmp_path / "test.jsonl", [row("t1", image="1.png", question="q?"), row("t2", image="2.png", question="q?")]
    )
    train = write(tmp_path / "train.jsonl", [row(f"r{i}", image=f"{i}.png", question="q?") for i in range(1, 5)])
    report = dedup_manifests([test, train], tmp_path / "out", match=BY_PATH)
    assert ids(tmp_path / "out" / "test.jsonl") == ["t1", "t2"]
    assert ids(tmp_path / "out" / "train.jsonl") == ["r3", "r4"]
    assert report.dropped == {"duplicate across splits": 2}
    assert "'t1' (test.jsonl:1)" in read(tmp_path / "out" / "dropped.jsonl")[0]["detail"]


def test_an_evaluation_set_that_cannot_be_read_is_refused(tmp_path: Path):
    path, empty = write(tmp_path / "a.jsonl", [row("1")]), write(tmp_path / "test.jsonl", ["{", "[]"])
    sound = write(tmp_path / "sound.jsonl", [row("2", question="Something else?"), "{"])
    with pytest.raises(DataError, match=r"test\.jsonl has no sound row, so that nothing can be compared"):
        decontaminate_manifest(path, [sound, empty], tmp_path / "out.jsonl", match=BY_PATH)
    assert not (tmp_path / "out.jsonl").exists()
    report = decontaminate_manifest(path, [sound], tmp_path / "out.jsonl", match=BY_PATH)
    assert report.notes == ("1 row(s) of the evaluation sets are defective: not compared with.",)


def test_the_media_index_spares_the_second_verb_the_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for i in range(4):
        photo(i).save(tmp_path / f"{i}.png")
    path = write(tmp_path / "a.jsonl", [row(f"{i}", image=f"{i}.png") for i in range(4)])
    index = tmp_path / "media.sqlite"
    match = MediaMatch(near=4, index=index, workers=1)
    dedup_manifests([path], tmp_path / "b.jsonl", match=match)
    asked: list[str] = []

    def noted(work: Any, items: Any, **options: Any) -> Any:
        listed = list(items)
        asked.extend(Path(item.path).name for item in listed)
        return run_killable(work, listed, **options)

    monkeypatch.setattr("mmrl.curation.media_index.run_killable", noted)
    dedup_manifests([path], tmp_path / "c.jsonl", match=match)
    assert asked == []
    photo(9).save(tmp_path / "2.png")  # a changed file is looked into again
    dedup_manifests([path], tmp_path / "d.jsonl", match=match)
    assert asked == ["2.png"]


# --- the commands ----------------------------------------------------------------------------------------------------


def test_exit_codes(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    quiet = ("--quiet", "--workers", "1")
    assert command("validate", manifest, "--no-media", *quiet) == 0  # there is something useful left
    printed = capsys.readouterr().out
    assert "all.jsonl:8: not JSON" in printed
    assert "66 of 68 rows are usable" in printed
    assert command("validate", manifest, "--no-media", "--strict", *quiet) == 2
    assert command("validate", manifest, *quiet) == 2  # no picture is there: nothing is usable
    bad = write(tmp_path / "bad.jsonl", ["{", "[]"])
    for verb in ("filter", "dedup", "split", "mix", "select"):
        extra = ["id != ''"] if verb == "filter" else []
        assert command(verb, bad, *extra, "--out", tmp_path / f"{verb}.out.jsonl", *quiet) == 2
        assert not (tmp_path / f"{verb}.out.jsonl").exists()
    assert command("filter", manifest, "taks == 1", "--out", tmp_path / "f.jsonl", *quiet) == 2
    assert "Did you mean 'task'" in capsys.readouterr().err


def test_the_commands_work_on_each_others_output(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    quiet = ("--quiet", "--workers", "1")
    path = ("--media", "path")
    unique, divided, mixed = tmp_path / "unique.jsonl", tmp_path / "divided", tmp_path / "mixed.jsonl"
    assert command("validate", manifest, "--no-media", "--out", tmp_path / "usable.jsonl", *quiet) == 0
    assert command("dedup", tmp_path / "usable.jsonl", "--out", unique, *path, *quiet) == 0
    assert command("split", unique, "--out", divided, "--shares", "train=4,test=1", *path, *quiet) == 0
    against = ("--against", divided / "test.jsonl", "--out", tmp_path / "clean.jsonl")
    assert command("decontaminate", divided / "train.jsonl", *against, *path, *quiet) == 0
    assert (
        command("mix", tmp_path / "clean.jsonl", divided / "test.jsonl", "--weights", "2,1", "--out", mixed, *quiet)
        == 0
    )
    assert (
        command("select", mixed, "--band", "0.2,0.8", "--balance", "answer", "--out", tmp_path / "chosen.jsonl", *quiet)
        == 0
    )
    assert len(ids(unique)) == 60
    assert len(ids(tmp_path / "clean.jsonl")) == 48  # a split leaks nothing
    assert all(0.2 <= line["metadata"]["pass_rate"] <= 0.8 for line in read(tmp_path / "chosen.jsonl"))
    assert "left out because" in capsys.readouterr().out
