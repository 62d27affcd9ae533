"""Rows from files of every kind, whole or damaged."""

import csv
import io
import json
import tarfile

import pytest
from PIL import Image

from mmrl.data.formats.row import Unfit, auto_answer, media_of, relative_path
from mmrl.data.readers import files as reader
from mmrl.data.readers.files import count_rows, read_rows
from mmrl.data.readers.tables import hub_rows
from mmrl.data.recipe import build_recipe
from mmrl.errors import DataError


def rows(path):
    return [row if not isinstance(row, DataError) else str(row) for _, row in read_rows(path)]


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_a_list_is_read_piece_by_piece(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reader, "_BLOCK", block)
    items = [{"a": 1, "text": 'with "quotes", ] and }'}, {"b": [1, 2, {"c": None}]}, 12345, "ü", {}]
    path = tmp_path / "rows.json"
    path.write_text("\ufeff \n" + json.dumps(items, indent=2, ensure_ascii=False), encoding="utf-8")
    assert rows(path) == items


def test_an_empty_list_has_no_rows(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(" [ ] ")
    assert rows(path) == []


def test_a_list_that_breaks_off_says_where(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": 2}, {"a"')
    found = read_rows(path)
    assert [next(found), next(found)] == [(1, {"a": 1}), (2, {"a": 2})]
    with pytest.raises(DataError, match="after item 2"):
        next(found)


def test_one_bad_item_of_a_list_does_not_hide_the_others(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": NaN}, {"a": 3}]')
    first, bad, last = rows(path)
    assert (first, last) == ({"a": 1}, {"a": 3})
    assert "NaN" in bad


def test_how_many_rows_there_are_is_estimated_for_progress(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([{"a": 1, "b": "text"}] * 1000))
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' * 70)
    assert 900 < count_rows(tmp_path / "rows.json") < 1100
    assert count_rows(tmp_path / "rows.jsonl") == 70
    (tmp_path / "rows.json").write_text("[")
    assert count_rows(tmp_path / "rows.json") == 0


def test_an_object_of_objects_gives_each_its_key(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"v1": {"duration": 3}, "v2": {"duration": 4}}))
    assert rows(path) == [{"key": "v1", "duration": 3}, {"key": "v2", "duration": 4}]


def test_json_lines_may_be_called_json(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}\r\n\r\n{"a": 2}\r\nno json\r\n')
    first, second, bad = rows(path)
    assert (first, second) == ({"a": 1}, {"a": 2})
    assert "not JSON" in bad
    assert count_rows(tmp_path / "rows.json") == 0  # not known without reading


def test_tables_of_text(tmp_path):
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["question", "answer"], ["one,\ntwo?", "3"], ["x"], ["empty?", ""]])
    first, bad, last = rows(path)
    assert first == {"question": "one,\ntwo?", "answer": "3"}
    assert "more or fewer cells" in bad
    assert last == {"question": "empty?"}


def shard(path, members):
    with tarfile.open(path, "w") as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def test_members_of_a_shard_share_the_name_up_to_the_first_dot(tmp_path):
    path = tmp_path / "s.tar"
    shard(
        path,
        [("d/a.seg.png", b"1"), ("d/a.json", b'{"q": 1}'), ("d/a.b.txt", b" x "), ("d/c.png", b"2"), (".hidden", b"")],
    )
    assert rows(path) == [
        {"__key__": "d/a", "seg.png": {"bytes": b"1", "path": "x.png"}, "json": {"q": 1}, "b.txt": "x"},
        {"__key__": "d/c", "png": {"bytes": b"2", "path": "x.png"}},
    ]


def test_a_bad_member_costs_its_row_and_a_cut_shard_is_an_error(tmp_path):
    path = tmp_path / "s.tar"
    shard(path, [("a.json", b"{"), ("a.png", b"1"), ("b.json", b'{"q": 2}'), ("c.png", b"x" * 5000)])
    bad, good, _ = rows(path)
    assert bad.startswith("a.json: not JSON")
    assert good["json"] == {"q": 2}
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read after row"):
        rows(path)


def test_no_member_of_a_shard_reaches_outside(tmp_path):
    """Names that climb are keys, links are no members; what is built lies in its folder under names of its own."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    picture = io.BytesIO()
    Image.new("RGB", (30, 20)).save(picture, format="PNG")
    with tarfile.open(theirs / "s.tar", "w") as file:
        for name, content in (
            ("../../evil.png", picture.getvalue()),
            ("../../evil.json", b'{"question": "What?", "answer": "3"}'),
            ("/etc/evil.json", b'{"question": "What?", "answer": "3", "image": "../secret.png"}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("linked.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: mine\nbuilder: converted\nsplits: {train: 1}\n"
        f"options: {{format: columns, root: {theirs}, files: ['*.tar']}}\n"
    )
    report = build_recipe(recipe, tmp_path / "ours")
    assert report.dropped == {"path leaves the media folder": 1}
    assert {path.name for path in tmp_path.rglob("*.png")} == {"mine-train-0000.png"}
    assert not any(tmp_path.parent.glob("evil*"))


def test_folders_with_classes_and_with_metadata(tmp_path):
    for name in ("b/1.PNG", "a/2.jpg", "a/notes.txt", "3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert rows(tmp_path) == [
        {"file_name": "3.mp4"},
        {"file_name": "a/2.jpg", "label": "a"},
        {"file_name": "b/1.PNG", "label": "b"},
    ]
    (tmp_path / "a" / "metadata.jsonl").write_text('{"file_name": "2.jpg", "question": "Q?"}\n')
    assert rows(tmp_path) == [{"file_name": "a/2.jpg", "question": "Q?"}]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        rows(tmp_path / "empty")


def test_parquet_arrow_and_saved_data_sets_give_the_same_rows(tmp_path):
    import datasets  # type: ignore[import-untyped]

    table = datasets.Dataset.from_list([{"q": f"{i}?", "n": i} for i in range(130)])
    table.to_parquet(tmp_path / "t.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "dict")
    wanted = [{"q": f"{i}?", "n": i} for i in range(130)]
    assert rows(tmp_path / "t.parquet") == wanted
    assert rows(next((tmp_path / "saved").glob("*.arrow"))) == wanted
    assert count_rows(tmp_path / "t.parquet") == 130
    for name in ("saved", "dict"):
        found = hub_rows(str(tmp_path / name), config=None, split="train", revision=None)
        assert [row for _, row in found] == wanted
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read after row 0"):
        rows(tmp_path / "t.parquet")


def test_paths_stay_below_the_media_folder():
    assert relative_path("./a/b.png") == "a/b.png"
    assert relative_path("a\\b.png") == "a/b.png"
    assert relative_path("/data/b.png") == "/data/b.png"
    for path in ("../b.png", "a/../../b.png"):
        with pytest.raises(Unfit, match="goes up"):
            relative_path(path)


@pytest.mark.parametrize(
    ("gold", "type_", "options", "answer"),
    [
        ("B", "auto", ["x", "y"], {"type": "choice", "value": "B"}),
        ("y", "auto", ["x", "y"], {"type": "choice", "value": "B"}),
        (1, "auto", ["x", "y"], {"type": "choice", "value": "B"}),
        ("A", "auto", ["B", "A"], {"type": "choice", "value": "B"}),  # an option's text comes before a letter
        ("<answer> 12 </answer>", "auto", [], {"type": "number", "value": 12}),
        ("1,234.5", "number", [], {"type": "number", "value": 1234.5}),
        (["14"], "auto", [], {"type": "number", "value": 14}),
        ("140°", "auto", [], {"type": "text", "value": "140°"}),
        ("12", "math", [], {"type": "math", "value": "12"}),
        ("[1, 2, 3, 4]", "box", [], {"type": "box", "value": [1, 2, 3, 4]}),
        (True, "auto", ["no", "yes"], {"type": "choice", "value": "B"}),
        (["x", "z"], "choices", ["x", "y", "z"], {"type": "choices", "value": ["A", "C"]}),
    ],
)
def test_golds_as_people_write_them(gold, type_, options, answer):
    assert auto_answer(gold, type_, options) == answer


@pytest.mark.parametrize(
    ("gold", "type_", "options"),
    [
        ("C", "auto", ["x", "y"]),
        (2, "auto", ["x", "y"]),
        (None, "auto", []),
        ("", "text", []),
        ({"a": 1}, "auto", []),
        ("many", "number", []),
        ("1, 2", "box", []),
        (None, "auto", ["x", "y"]),
    ],
)
def test_golds_that_are_none(gold, type_, options):
    with pytest.raises(Unfit):
        auto_answer(gold, type_, options)


def test_embedded_files_are_told_by_their_first_bytes():
    assert media_of({"bytes": b"\x89PNG....", "path": "x.jpg"})["suffix"] == ".png"
    assert media_of(b"\0\0\0\x18ftypmp42", "video") == {
        "type": "video",
        "content": b"\0\0\0\x18ftypmp42",
        "suffix": ".mp4",
    }
    assert media_of({"bytes": None, "path": "./a.png"}) == {"type": "image", "path": "a.png"}
    assert media_of("data:image/png;base64,iVBORw0KGgo=")["suffix"] == ".png"
    for cell in (b"no picture", {"bytes": b"", "path": None}, "", None, 3):
        with pytest.raises(Unfit):
            media_of(cell)
