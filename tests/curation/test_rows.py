"""Rows are read the same way however the file is cut, and the quick look agrees with the close one."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.curation.plain import plain_sample
from mmrl.curation.scan import DEFECTIVE, REPEATED_ID, SOUND, Nothing, scan
from mmrl.curation.shards import read_rows, shards_of
from mmrl.data.samples import examine_row
from mmrl.errors import DataError
from mmrl.progress import SilentProgress
from tests.curation.material import choice, row, write

ROOT = Path("/data/set")
TEXTS = st.sampled_from(["a", "", "  ", "two words", " x", "a  b", "<image> what?", "<video>", "x\ty", "é", "A"])
PATHS = st.sampled_from(["a.png", "b/c.png", "../x.png", "/abs/x.png", "./y.png", "a//b.png", "http://x/y.png", "a\\b",
                         "", "x.png ", "b/../c.png", "a:b.png"])  # fmt: skip
NUMBERS = st.sampled_from([0, 1, -1, 2.5, 30, 1e9, True, None, "3"])
MEDIA = st.one_of(
    st.none(),
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["image", "video", "frames", "sound"])},
            optional={"path": PATHS, "start": NUMBERS, "paths": st.lists(PATHS, max_size=2), "fps": NUMBERS},
        ),
        max_size=3,
    ),
)
ANSWERS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["choice", "choices", "number", "text", "math", "box", "boxes", "point", "span", "odd"]
            ),
            "value": st.one_of(TEXTS, NUMBERS, st.lists(NUMBERS, min_size=2, max_size=4), st.just(["A", "B"])),
        },
        optional={"unit": TEXTS, "space": st.sampled_from(["pixels", "unit", "norm1000"])},
    ),
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS,
        "task": TEXTS,
        "question": TEXTS,
        "media": MEDIA,
        "choices": st.one_of(st.none(), st.lists(TEXTS, max_size=4)),
        "answer": ANSWERS,
        "metadata": st.one_of(st.none(), st.just({"a": 1}), st.just([1])),
        "extra": TEXTS,
    },
)


@settings(max_examples=250, deadline=None)
@given(ROWS)
def test_where_the_quick_look_gives_a_sample_the_close_one_gives_the_same(fields: dict[str, Any]):
    quick = plain_sample(fields, str(ROOT))
    if quick is not None:
        close, defects = examine_row(fields, root=ROOT)
        assert defects == []
        assert quick == close


def test_the_quick_look_knows_ordinary_rows():
    ordinary = [
        row("1", image="a.png"),
        row("2", video="b/c.mp4", question="<video> What moves?"),
        row("3", choices=["a", "b"], answer=choice("B"), metadata={"x": 1}),
        row("4", image="a.png", answer={"type": "box", "value": [1, 2, 3, 4]}),
        row("5", answer={"type": "number", "value": 3.5}),
    ]
    for fields in ordinary:
        assert plain_sample(fields, str(ROOT)) == examine_row(fields, root=ROOT)[0] != None  # noqa: E711


LINES = ["\ufeff" + json.dumps(row("a")), "", json.dumps(row("b")) + "\r", "{", "   ", json.dumps(row("a")), "[]",
         json.dumps(row("c")), "", json.dumps({"id": "d"}), '{"id": "e", "id": "f"}']  # fmt: skip


@pytest.mark.parametrize("size", [1, 30, 200, 1 << 20])
def test_every_cut_of_a_file_gives_the_same_rows(tmp_path: Path, size: int):
    path = write(tmp_path / "m.jsonl", LINES)
    shards = shards_of(path, size=size)
    rows = [found for shard in shards for found in read_rows(shard)]
    assert [found.id for found in rows] == ["a", "b", None, "a", None, "c", "d", None]
    assert shards[0].start == 0
    assert shards[-1].stop == path.stat().st_size
    assert all(a.stop == b.start for a, b in pairwise(shards))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_scan_knows_lines_states_and_repeated_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int):
    path = write(tmp_path / "m.jsonl", LINES)
    monkeypatch.setattr("mmrl.curation.scan.shards_of", lambda file: shards_of(file, size=40))
    found = scan([path], Nothing(), workers=workers, progress=SilentProgress())
    assert found.line.tolist() == [1, 3, 4, 6, 7, 8, 10, 11]
    assert found.state.tolist() == [SOUND, SOUND, DEFECTIVE, REPEATED_ID, DEFECTIVE, SOUND, DEFECTIVE, DEFECTIVE]
    assert found.sample(5).id == "c"


def test_files_that_are_none_are_named(tmp_path: Path):
    write(tmp_path / "train.jsonl", [row("a")])
    with pytest.raises(DataError, match=r"Did you mean 'train\.jsonl'"):
        shards_of(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        shards_of(tmp_path)
    (tmp_path / "wide.jsonl").write_bytes("{}".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        shards_of(tmp_path / "wide.jsonl")
