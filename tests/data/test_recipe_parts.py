"""Recipes of several sources: mixing, filters, splits that a source names, settings, and what a run takes over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmrl.config.load import load_config
from mmrl.data.manifest import read_manifest
from mmrl.data.recipe import build_recipe, write_data_set
from mmrl.data.recipe_file import load_parts, load_recipe
from mmrl.data.recipe_filter import Filters
from mmrl.data.source import Draft, Source
from mmrl.errors import ConfigError, DataError
from mmrl.types import Answer, Media

MIXED = """
name: mixed
sources:
  counts: {builder: counting, weight: 3, options: {size: 56}}
  points: {builder: grounding, weight: 1, options: {size: 56, ask: point}}
splits: {train: 10, test: 5}
prompt: {mode: answer}
rewards: {count: [{name: number}], point: [{name: point_distance, options: {reach: 14}}]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def draft(key: str, clip: str = "", **changes: object) -> Draft:
    fields: dict[str, object] = {
        "key": key,
        "task": "count",
        "question": f"How many ({key})?",
        "answer": Answer(type="number", value=2),
        "media": (Media(type="video", path=f"/films/{clip or key}.mp4"),),
    }
    return Draft(**{**fields, **changes})  # type: ignore[arg-type]


def made(folder: Path, sources: Mapping[str, list[Draft]], **options: object) -> tuple[dict[str, Counter[str]], dict]:
    given = {name: Source(rows=iter(rows), total=len(rows), inputs={}) for name, rows in sources.items()}
    wanted: dict[str, object] = {"shares": {"train": 4, "test": 1}, "seed": 0, **options}
    counts, dropped = write_data_set(given, folder, name="w", **wanted)  # type: ignore[arg-type]
    held = {
        split: Counter(str(s.metadata.get("source", "")) for s in read_manifest(folder / f"{split}.jsonl"))
        for split in counts
    }
    return held, dropped


def test_generated_rows_come_in_the_proportions_of_the_weights(tmp_path):
    report = build_recipe(written(tmp_path, MIXED), tmp_path / "out")
    assert report.counts == {"train": 10, "test": 5}
    tasks = {
        split: Counter(s.metadata["source"] for s in read_manifest(path)) for split, path in report.manifests.items()
    }
    assert tasks == {"train": {"counts": 8, "points": 2}, "test": {"counts": 4, "points": 1}}  # 7.5 and 3.75, rounded
    lock = json.loads((report.folder / "recipe.lock.json").read_text())
    assert lock["recipe"]["sources"]["counts"]["options"]["most"] == 6
    assert lock["builder_revision"] == {"counts": 1, "points": 1}


def test_a_runs_config_takes_over_prompt_and_rewards(tmp_path):
    folder = build_recipe(written(tmp_path, MIXED), tmp_path / "out").folder
    (tmp_path / "run.yaml").write_text(
        f"extends: out/run.yaml\ndata: {{train: {folder}/train.jsonl, test: {folder}/test.jsonl}}\n"
        "model: {tiny: {}}\nalgorithm: grpo\nrun: {name: r}\n"
    )
    config = load_config(tmp_path / "run.yaml")
    assert config.prompt.mode == "answer"
    assert config.rewards["point"][0].options == {"reach": 14}


def test_of_rows_that_are_read_the_scarcest_source_is_used_whole(tmp_path):
    rows = {"many": [draft(f"a{i}") for i in range(40)], "few": [draft(f"b{i}") for i in range(10)]}
    held, dropped = made(tmp_path / "out", rows, weights={"many": 2, "few": 1})
    assert sum((held["train"] + held["test"]).values()) == 30
    assert held["train"] + held["test"] == {"many": 20, "few": 10}
    assert dropped == {"beyond its share of the mixture": 20}


def test_without_weights_every_row_is_used(tmp_path):
    rows = {"many": [draft(f"a{i}") for i in range(8)], "few": [draft(f"b{i}") for i in range(2)]}
    held, dropped = made(tmp_path / "out", rows)
    assert held["train"] + held["test"] == {"many": 8, "few": 2}
    assert dropped == {}


def test_equal_keys_of_two_sources_are_different_rows(tmp_path):
    rows = {"a": [draft("k", "one"), draft("l", "three")], "b": [draft("k", "two")]}
    held, _ = made(tmp_path / "out", rows, shares={"train": 1})
    assert held["train"] == {"a": 2, "b": 1}


def test_one_clip_of_two_sources_stays_in_one_split(tmp_path):
    rows = {
        name: [draft(f"{i}", f"clip{i}", question=f"{name} {i}?") for i in range(12)] for name in ("first", "second")
    }
    made(tmp_path / "out", rows)
    homes: dict[str, set[str]] = {}
    for split in ("train", "test"):
        for sample in read_manifest(tmp_path / "out" / f"{split}.jsonl"):
            homes.setdefault(str(sample.media[0].path), set()).add(split)
    assert len(homes) == 12
    assert all(len(splits) == 1 for splits in homes.values())


def test_named_splits_are_kept_and_training_rows_of_a_test_clip_leave(tmp_path):
    rows = [
        draft("1", "a", split="train"),
        draft("2", "b", split="train"),
        draft("3", "b", split="test"),
        draft("4", "c", split="test"),
    ]
    held, dropped = made(tmp_path / "out", {"": rows})
    assert {split: found.total() for split, found in held.items()} == {"train": 1, "test": 2}
    assert dropped == {"shown in another split": 1}


def test_a_split_that_the_recipe_does_not_name_or_that_stays_empty_is_an_error(tmp_path):
    with pytest.raises(DataError, match="rows for the split 'validation'; `splits` names train, test"):
        made(tmp_path / "a", {"": [draft("1", split="validation")]})
    with pytest.raises(DataError, match="no row of 'w' is left for split test"):
        made(tmp_path / "b", {"": [draft("1", split="train")]})


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"tasks": ["choice"]}, "task not wanted"),
        ({"answer_types": ["text", "box"]}, "answer type not wanted"),
        ({"media_types": ["image"]}, "media type not wanted"),
        ({"longest_question": 5}, "question too long"),
        ({"most_media": 0}, "too many media"),
        ({"fewest_choices": 3}, "too few options"),
        ({"most_choices": 2}, "too many options"),
        ({"metadata": {"level": ["L1"]}}, "level not wanted"),
    ],
)
def test_each_filter_refuses_by_its_reason_and_keeps_what_it_should(rule, reason):
    refused = {
        "too few options": draft("k", choices=("a", "b")),
        "too many options": draft("k", choices=("a", "b", "c")),
        "level not wanted": draft("k", metadata={"level": "L2"}),
    }.get(reason, draft("k"))
    dropped = Filters.model_validate(rule).refusal(refused)
    assert dropped is not None
    assert (dropped.sample_id, dropped.reason) == ("k", reason)
    assert Filters().refusal(refused) is None
    fitting = draft("k", task="choice", question="Q?", media=(), choices=(), metadata={"level": "L1"})
    if reason != "answer type not wanted":
        assert Filters.model_validate(rule).refusal(fitting) is None


def test_filtered_rows_are_listed(tmp_path):
    rows = [draft("1"), draft("2", task="other"), draft("3")]
    _, dropped = made(tmp_path / "out", {"": rows}, filters=Filters(tasks=("count",)), shares={"train": 1})
    assert dropped == {"task not wanted": 1}
    line = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert line == {"key": "2", "reason": "task not wanted", "detail": "the task is 'other'"}


def test_settings_reach_splits_options_and_weights(tmp_path):
    path = written(tmp_path, MIXED)
    recipe, parts = load_parts(path, settings=["n_train=7", "size=84", "counts.most=3", "points.weight=2"])
    assert recipe.splits == {"train": 7, "test": 5}
    assert [part.weight for part in parts] == [3, 2]
    assert recipe.sources["counts"].options["most"] == 3
    assert {name: entry.options["size"] for name, entry in recipe.sources.items()} == {"counts": 84, "points": 84}
    assert load_recipe("digits", settings=["size=28"])[0].options["size"] == 28


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("size", "is no setting"),
        ("n_trian=5", "unknown split 'trian'. Did you mean 'train'?"),
        ("count.size=56", "unknown source 'count'. Did you mean 'counts'?"),
        ("counts.sizes=56", "unknown key 'sizes'. Did you mean 'size'?"),
        ("n_train=0", "splits.train"),
        ("n_train=0.5", "the rows are generated"),
        ("size=[", "is not readable"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, setting, what):
    with pytest.raises(ConfigError) as caught:
        load_parts(written(tmp_path, MIXED), settings=[setting])
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (MIXED + "builder: digits\n", "builder and sources exclude each other"),
        (MIXED + "options: {size: 3}\n", "write sources.NAME.options"),
        (MIXED + "filters: {task: [a]}\n", "filters.task"),
        (MIXED.replace("counting,", "countin,"), "sources.counts.builder: unknown builder 'countin'"),
        (MIXED.replace("weight: 3", "weight: 0"), "sources.counts.weight"),
    ],
)
def test_a_mistake_among_several_sources_is_named(tmp_path, text, what):
    with pytest.raises(ConfigError) as caught:
        load_parts(written(tmp_path, text))
    assert what in str(caught.value)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Peak memory in a process of its own, in MiB: 60,000 rows need little more than 6,000."""
    import re
    import subprocess
    import sys

    bench = Path(__file__).parents[2] / "tools" / "bench" / "recipe_rows.py"

    def peak(rows: int) -> int:
        done = subprocess.run([sys.executable, bench, str(rows)], capture_output=True, text=True, check=True)
        found = re.search(r"at most (\d+) MiB", done.stdout)
        assert found is not None
        return int(found[1])

    assert peak(60_000) - peak(6_000) < 48  # SQLite's cache and what it sorts, 16 MiB each at most; seen: 28
