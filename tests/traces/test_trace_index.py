"""Finding groups: what the index says of a trace, and that it stays true while runs grow, resume, break and move."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mmrl.errors import ConfigError, RunError
from mmrl.traces import parts
from mmrl.traces.index import TraceIndex
from mmrl.traces.query import DROPPED, SORTS, TRAINED, Find
from mmrl.traces.reader import TraceReader
from mmrl.traces.writer import TraceWriter, step_path
from mmrl.types import Dropped, ScoredGroup
from tests.traces.fakes import choice_sample, scored_group

RIGHT, WRONG, BARE = "<answer>B</answer>", "<answer>A</answer>", "B"


def write(traces: TraceWriter, step: int, *groups: ScoredGroup, dropped: str = "") -> None:
    drops = (
        [Dropped(sample_id=dropped, stage="media", reason="truncated image", detail="scene.png is cut")]
        if dropped
        else []
    )
    traces.write(step, groups, advantages=[[0.0] * len(g.totals) for g in groups], dropped=drops)


def group(name: str, *texts: str, step: int = 0, task: str = "choice") -> ScoredGroup:
    return scored_group(choice_sample(name, task=task), texts, step=step)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    traces = TraceWriter(tmp_path / "run" / "traces")
    write(traces, 0, group("a", RIGHT, WRONG, WRONG, WRONG), group("b", RIGHT, RIGHT, RIGHT), dropped="torn")
    write(
        traces, 1, group("c", WRONG, WRONG, BARE, step=1, task="other"), group("a", RIGHT, RIGHT, WRONG, WRONG, step=1)
    )
    filtered = group("d", WRONG, WRONG, step=2)
    traces.write(
        2, [], advantages=[], dropped_groups=[(filtered, Dropped(sample_id="d", stage="filter", reason="all wrong"))]
    )
    return tmp_path / "run"


@pytest.fixture
def index(run: Path) -> TraceIndex:
    made = TraceIndex(run)
    made.refresh()
    return made


def found(index: TraceIndex, **asked: object) -> list[tuple[int, str]]:
    rows, count = index.find(Find(**asked))  # type: ignore[arg-type]
    assert count == len(rows)
    return [(row.step, row.sample_id) for row in rows]


def test_everything_is_found_newest_first(index: TraceIndex):
    assert found(index) == [(2, "d"), (1, "c"), (1, "a"), (0, "a"), (0, "b"), (0, "torn")]
    facets = index.facets()
    assert (facets.steps, facets.groups, facets.rollouts) == ((0, 2), 6, 16)
    assert facets.tasks == ("choice", "other")
    assert facets.reasons == ("all wrong", "truncated image")
    assert facets.parts == ("choice", "format")
    assert (facets.pending, facets.problems) == (0, ())


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"task": "other"}, ["c"]),
        ({"sample_id": "A"}, ["a", "a"]),
        ({"steps": (1, 1)}, ["c", "a"]),
        ({"steps": (None, 0)}, ["a", "b", "torn"]),
        ({"outcome": TRAINED}, ["c", "a", "a", "b"]),
        ({"outcome": DROPPED}, ["d", "torn"]),
        ({"outcome": "all wrong"}, ["d"]),
        ({"odd": "one lucky"}, ["c", "a"]),  # c: only "B" without a tag is right
        ({"odd": "all equal"}, ["d", "b"]),
        ({"odd": "form without accuracy"}, ["d", "c", "a", "a"]),
        ({"pass_rate": (0.5, None)}, ["a", "b"]),
        ({"reward": (1.5, None)}, ["b"]),
        ({"part": "choice", "part_range": (None, 0.25)}, ["d", "a"]),
        ({"part": "nothing"}, []),
        ({"text": "ANSWER>b<"}, ["a", "a", "b"]),
        ({"text": "scene.png"}, ["torn"]),
        ({"text": "100% '; DROP TABLE groups; --"}, []),
        ({"text": "answer", "task": "other"}, ["c"]),
    ],
)
def test_groups_are_found_by(index: TraceIndex, asked: dict[str, object], ids: list[str]):
    assert [name for _, name in found(index, **asked)] == ids


@pytest.mark.parametrize("sort", SORTS)
def test_pages_of_a_list_never_overlap(index: TraceIndex, sort: str):
    whole = found(index, sort=sort)
    pages = [index.find(Find(sort=sort), limit=2, skip=skip)[0] for skip in (0, 2, 4)]
    assert [(row.step, row.sample_id) for page in pages for row in page] == whole


def test_places_are_those_of_the_rows_with_rollouts(index: TraceIndex):
    for sort in ("newest", "oddest"):
        rows, _ = index.find(Find(sort=sort), limit=50)
        assert index.places(Find(sort=sort), limit=50) == [(row.step, row.place) for row in rows if row.size]
    assert len(index.places(Find(), limit=2)) == 2


def test_sorting_brings_the_odd_to_the_top(index: TraceIndex):
    assert found(index, sort="one lucky first")[0][1] in ("a", "c")
    assert found(index, sort="lowest pass rate")[0] == (2, "d")
    assert found(index, sort="highest reward")[0] == (0, "b")
    assert found(index, sort="oddest")[-1] == (0, "torn")


def test_a_row_leads_to_its_group(index: TraceIndex, run: Path):
    written = {(g.step, g.sample.id): g for g in TraceReader(run).groups()}
    rows, _ = index.find(Find())
    for row in rows:
        if row.size:
            assert index.group(row) == written[row.step, row.sample_id]
            assert index.at(row.step, row.place) == row
    assert index.at(0, 12345) is None
    assert [row.step for row in index.visits("a")] == [0, 1]
    assert index.first_and_last()["a"][1].pass_rate == 0.5
    size, rate = index.pass_rates()["a"]
    assert (size, round(rate, 4)) == (8, 0.375)


def test_it_follows_a_growing_run_and_a_resumed_one(index: TraceIndex, run: Path):
    traces = TraceWriter(run / "traces")
    write(traces, 3, group("e", RIGHT, WRONG, step=3))
    assert index.facets().pending == 1
    index.refresh()
    assert found(index)[0] == (3, "e")
    (stale,) = index.find(Find(sample_id="e"))[0]
    traces.discard_from(1)
    write(traces, 1, group("f", RIGHT, BARE, step=1))
    with pytest.raises(RunError, match="resumed"):
        index.group(stale)
    index.refresh()
    assert found(index) == [(1, "f"), (0, "a"), (0, "b"), (0, "torn")]


def test_a_second_reader_sees_what_the_first_has_indexed(index: TraceIndex, run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "read_rows", None)  # nothing may be read from the traces again
    second = TraceIndex(run)
    assert found(second) == found(index)
    second.refresh()
    assert found(second) == found(index)


def test_while_another_process_writes_it_shows_what_is_published(run: Path):
    TraceIndex(run).refresh()
    folder = parts.index_folder(run / "traces")
    holds = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holds, str(folder / "lock")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            write(TraceWriter(run / "traces"), 3, group("e", RIGHT, WRONG, step=3))
            index = TraceIndex(run)
            index.refresh()
            assert (3, "e") not in found(index)
            assert index.facets().pending == 1
        finally:
            other.kill()
    index.refresh()
    assert (3, "e") in found(index)


def test_many_steps_are_indexed_by_another_process(run: Path, monkeypatch: pytest.MonkeyPatch):
    index = TraceIndex(run)
    assert index.pending() == 3
    monkeypatch.setattr(parts, "read_rows", None)  # not in this process
    index.refresh_apart()
    assert index.pending() == 0
    assert len(found(index)) == 6
    stopped = threading.Event()
    stopped.set()
    step_path(run / "traces", 1).write_bytes(step_path(run / "traces", 1).read_bytes() + b"\n")
    assert index.pending() == 1
    index.refresh_apart(stop=stopped)  # ends at once, and what there was is still found
    assert len(found(index)) >= 4


def test_parts_are_filled_and_closed(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "ROLLOUTS_A_PART", 5)
    index = TraceIndex(run)
    index.refresh()
    folder = parts.index_folder(run / "traces")
    names = [part.name for part in parts.read_parts(folder)]
    assert len(names) == 3
    write(TraceWriter(run / "traces"), 3, group("e", RIGHT, WRONG, step=3))
    index.refresh()
    assert [part.name for part in parts.read_parts(folder)][:2] == names[:2]  # full ones are not written again
    assert len(found(index)) == 7
    assert found(TraceIndex(run)) == found(index)


@pytest.mark.parametrize("damage", ["list", "parquet gone", "schema", "unfinished", "groups"])
def test_a_damaged_index_is_made_again(run: Path, damage: str):
    index = TraceIndex(run)
    index.refresh()
    folder = parts.index_folder(run / "traces")
    if damage == "list":
        (folder / parts.LIST).write_text('{"schema": 1, "parts": [{"na')
    elif damage == "schema":
        (folder / parts.LIST).write_text('{"schema": 99, "parts": []}')
    elif damage == "unfinished":
        (folder / "00000000-dead.groups.part").write_bytes(b"PAR1 half")
    elif damage == "parquet gone":
        next(folder.glob("*.texts.parquet")).unlink()
    else:
        file = next(folder.glob(f"*.{damage}.parquet"))
        file.write_bytes(bytes(file.stat().st_size))
    fresh = TraceIndex(run)
    fresh.refresh()
    assert len(found(fresh)) == 6
    assert len(found(fresh, text="answer")) == 4 + 1
    index.refresh()
    assert found(index) == found(fresh)


def test_a_file_that_is_damaged_while_it_is_open_is_told_and_made_again(run: Path):
    index = TraceIndex(run)
    index.refresh()
    file = next(parts.index_folder(run / "traces").glob("*.texts.parquet"))
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(RunError, match="The index is made again from the traces; search again"):
        found(index, text="answer")
    index.refresh()
    assert len(found(index, text="answer")) == 4 + 1


def test_damaged_lines_are_left_out_and_told(run: Path):
    path = step_path(run / "traces", 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b'{"schema": 1, "kind": "group"}\n' + b"not json\n" + lines[1] + lines[0][:50])
    index = TraceIndex(run)
    index.refresh()
    assert [name for step, name in found(index) if step == 1] == ["a"]
    problems = index.facets().problems
    assert len(problems) == 2  # the last line is still being written
    assert problems[0].startswith("step_000001.jsonl:1: KeyError")
    row = next(row for row in index.find(Find(steps=(1, 1)))[0])
    assert index.group(row).sample.id == "a"


def test_a_line_changed_in_place_is_noticed(index: TraceIndex, run: Path):
    (row,) = index.find(Find(task="other"))[0]
    path = step_path(run / "traces", 1)
    path.write_bytes(b" " * 40 + path.read_bytes())
    with pytest.raises(RunError, match="changed or was damaged"):
        index.group(row)


def test_numbers_that_are_none_and_texts_no_file_can_hold(tmp_path: Path):
    traces = TraceWriter(tmp_path / "traces")
    scored = group("a", RIGHT, "lone surrogate")
    rollouts = scored.group.rollouts
    odd = replace(rollouts[1], completion=replace(rollouts[1].completion, text="lone \ud800 surrogate"))
    odd_group = replace(scored.group, rollouts=(rollouts[0], odd))
    scored = replace(scored, group=odd_group, totals=(float("nan"), 0.5))
    write(traces, 0, scored)
    index = TraceIndex(tmp_path)
    index.refresh()
    assert index.facets().problems == ()
    assert len(found(index, text="surrogate")) == 1
    (row,) = index.find(Find())[0]
    assert row.total != row.total
    assert index.group(row).rollouts[1].rollout.completion.text == "lone \ud800 surrogate"


def test_searches_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="holds nothing"):
        Find(steps=(5, 2))
    with pytest.raises(ConfigError, match="oddity"):
        Find(odd="strange")
    with pytest.raises(ConfigError, match="order"):
        Find(sort="step; DROP TABLE groups")


def test_no_run_and_no_traces(tmp_path: Path):
    with pytest.raises(RunError, match="no such run folder"):
        TraceIndex(tmp_path / "nowhere")
    index = TraceIndex(tmp_path)
    index.refresh()
    assert found(index) == []
    assert index.facets().steps is None
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind


def test_traces_that_cannot_be_written_beside_are_indexed_in_the_cache(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as root, permissions do not keep us out
    index = TraceIndex(run)
    index.refresh()
    assert len(found(index)) == 6
    assert not (run / "traces" / ".index").exists()
    assert list((tmp_path / "cache").rglob(parts.LIST))


def test_the_index_needs_no_torch(run: Path):
    code = (
        "import sys; from pathlib import Path; from mmrl.traces.index import Find, TraceIndex; "
        f"i = TraceIndex(Path({str(run)!r})); i.refresh(); print(i.find(Find())[1], 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["6", "False"]


def test_its_list_is_json_that_names_step_files(index: TraceIndex, run: Path):
    body = json.loads((parts.index_folder(run / "traces") / parts.LIST).read_bytes())
    assert [step for part in body["parts"] for step in part["steps"]] == ["0", "1", "2"]
