"""Manifests: what is read, what is refused and how it is said, and that writing and reading are inverse."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrl.data.manifest import parse_answer, parse_sample, read_manifest, validate_manifest, write_manifest
from mmrl.errors import DataError
from mmrl.types import Answer, Media, Sample


def row(**changes):
    """A sound row with some fields changed; a value of ... removes the field."""
    sound = {
        "id": "digits-train-0007",
        "task": "choice",
        "question": "Which digit is written here?",
        "media": [{"type": "image", "path": "images/0007.png"}],
        "choices": ["0", "1", "2"],
        "answer": {"type": "choice", "value": "C"},
        "metadata": {"split": "train"},
    }
    return {key: value for key, value in (sound | changes).items() if value is not ...}


def manifest(folder: Path, *rows) -> Path:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def the_defect(folder: Path, **changes) -> str:
    """The only problem of a manifest whose one row has these changes."""
    report = validate_manifest(manifest(folder, row(**changes)))
    assert len(report.problems) == 1, [str(problem) for problem in report.problems]
    problem = report.problems[0]
    assert problem.where.endswith("train.jsonl:1")
    return problem.message


def test_a_row_becomes_a_sample_with_absolute_media_paths(tmp_path):
    (sample,) = read_manifest(manifest(tmp_path, row()))
    assert sample == Sample(
        id="digits-train-0007",
        task="choice",
        question="Which digit is written here?",
        media=(Media(type="image", path=str(tmp_path / "images" / "0007.png")),),
        choices=("0", "1", "2"),
        answer=Answer(type="choice", value="C"),
        metadata={"split": "train"},
    )


def test_paths_are_absolute_although_the_manifest_was_named_relatively(tmp_path, monkeypatch):
    manifest(tmp_path, row(media=[{"type": "image", "path": "./images/../a.png"}]))
    monkeypatch.chdir(tmp_path)
    assert read_manifest("train.jsonl")[0].media[0].path == str(tmp_path / "a.png")


def test_optional_fields_may_be_missing_or_null(tmp_path):
    bare = row(media=..., choices=..., metadata=..., answer={"type": "number", "value": 3})
    nulls = row(id="b", media=None, choices=None, metadata=None, answer={"type": "number", "value": 3, "unit": None})
    first, second = read_manifest(manifest(tmp_path, bare, nulls))
    assert first.media == second.media == ()
    assert first.choices == second.choices == ()
    assert first.metadata == second.metadata == {}


def test_byte_order_marks_crlf_blank_lines_and_odd_line_separators_are_read(tmp_path):
    path = tmp_path / "m.jsonl"
    one, two = json.dumps(row(id="1")), json.dumps(row(id="2", question="a\u2028b\x85c"), ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{one}\r\n\r\n   \n\ufeff{two}".encode())
    assert [sample.question for sample in read_manifest(path)] == ["Which digit is written here?", "a\u2028b\x85c"]
    assert validate_manifest(path).rows == 2


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"id": ...}, "has no 'id'"),
        ({"id": 7}, "id is a number 7; it must be text in quotes"),
        ({"task": None}, "has no 'task'"),
        ({"question": "  "}, "question is empty"),
        ({"question": ["Which?"]}, "question is a list; it must be text"),
        ({"quesion": "Which?"}, "unknown key 'quesion'. Did you mean 'question'?"),
        ({"metadata": []}, "metadata is a list; it must be an object"),
        ({"answer": ...}, "has no 'answer'"),
        ({"answer": "C"}, "answer is text; it must be an object"),
        ({"answer": {"type": "chioce", "value": "C"}}, "Did you mean 'choice'?"),
        ({"answer": {"value": "C"}}, "answer.type is null; it must be text"),
        ({"answer": {"type": "choice"}}, "answer.value is missing or null"),
        ({"answer": {"type": "choice", "value": "C", "unit": "m"}}, "unknown key 'unit'"),
        ({"answer": {"type": "choice", "value": "D"}}, "names option D, but there are 3 choices (A–C)"),
        ({"answer": {"type": "choice", "value": "(b)"}}, 'Here: "B".'),
        ({"answer": {"type": "choice", "value": 1}}, "answer.value is 1, which is no option letter"),
        ({"answer": {"type": "choice", "value": "2"}}, "The text is that of option C."),
        ({"answer": {"type": "choices", "value": "A,C"}}, "answer.value is text; it must be a list"),
        ({"answer": {"type": "choices", "value": []}}, "answer.value is an empty list"),
        ({"answer": {"type": "choices", "value": ["A", "A"]}}, "names an option twice"),
        ({"answer": {"type": "choices", "value": ["A", "E"]}}, "names option E"),
        ({"answer": {"type": "number", "value": "3.5"}}, "a number in quotes is text"),
        ({"answer": {"type": "number", "value": True}}, "answer.value is true/false; it must be a number"),
        ({"answer": {"type": "text", "value": ""}}, "answer.value is empty"),
        ({"answer": {"type": "math", "value": 3}}, "answer.value is a number 3; it must be text"),
        ({"choices": "0, 1"}, "choices is text; it must be a list"),
        ({"choices": ["0"], "answer": {"type": "choice", "value": "A"}}, "has one option"),
        ({"choices": ["0", "1 ", "1"]}, "options B and C are both '1'"),
        ({"choices": ["0", "", "2"]}, "choices[1] is empty"),
        ({"choices": ["0", 1, "2"]}, "choices[1] is a number 1"),
        ({"choices": [str(i) for i in range(27)]}, "has 27 options"),
    ],
)
def test_a_defect_of_a_field_is_named(tmp_path, changes, what):
    assert what in the_defect(tmp_path, **changes)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"type": "box", "value": [1, 2, 3]}, "has 3 numbers; it must be [x1, y1, x2, y2]"),
        ({"type": "box", "value": [10, 10, 5, 20]}, "If these are x, y, width, height"),
        ({"type": "box", "value": [10, 10, 20, 10]}, "has no area"),
        ({"type": "box", "value": [-1, 0, 20, 10]}, "lies outside the picture"),
        ({"type": "box", "value": [0.1, 0.2, 0.5, 0.9]}, 'add "space": "unit"'),
        ({"type": "box", "value": [0, 0, 1.2, 1], "space": "unit"}, "coordinates are between 0 and 1"),
        ({"type": "box", "value": [0, 0, 1001, 9], "space": "norm1000"}, "coordinates are between 0 and 1000"),
        ({"type": "box", "value": [0, 0, 5, 9], "space": "pixel"}, "Did you mean 'pixels'?"),
        ({"type": "box", "value": [0, 0, "5", 9]}, "answer.value[2] is text"),
        ({"type": "boxes", "value": [[0, 0, 5, 9], [5, 5, 2, 9]]}, "answer.value[1] [5, 5, 2, 9] has no area"),
        ({"type": "point", "value": [5]}, "it must be [x, y]"),
        ({"type": "point", "value": [0.5, 1.5], "space": "unit"}, "lies outside the picture"),
        ({"type": "span", "value": [5, 3]}, "0 ≤ start < end"),
        ({"type": "span", "value": [-1, 3]}, "0 ≤ start < end"),
        ({"type": "span", "value": [3, 3]}, "0 ≤ start < end"),
        ({"type": "spans", "value": [[1, 2], [4, 3]]}, "answer.value[1] [4, 3] is no span"),
        ({"type": "span", "value": [1, 2], "space": "unit"}, "unknown key 'space'"),
    ],
)
def test_a_defect_of_coordinates_is_named(tmp_path, answer, what):
    assert what in the_defect(tmp_path, answer=answer, choices=...)


@pytest.mark.parametrize(
    ("media", "what"),
    [
        ({"type": "image", "path": "a.png"}, "media is an object; it must be a list"),
        (["a.png"], "media[0] is text; it must be an object"),
        ([{}], "media[0] is empty"),
        ([{"type": "imgae", "path": "a.png"}], "Did you mean 'image'?"),
        ([{"type": "image"}], "media[0].path is null"),
        ([{"type": "image", "path": ""}], "media[0].path is empty"),
        ([{"type": "image", "path": "a.png", "fps": 2}], "unknown key 'fps'"),
        ([{"type": "image", "path": "https://host/a.png"}], "is an address"),
        ([{"type": "image", "path": "data:image/png;base64,AAAA"}], "is an address"),
        ([{"type": "video", "path": "a.mp4", "start": 5, "end": 5}], "ends at 5 s, not after its start at 5 s"),
        ([{"type": "video", "path": "a.mp4", "start": -1}], "media[0].start is -1; it must be at least 0"),
        ([{"type": "video", "path": "a.mp4", "fps": 0}], "media[0].fps is 0; it must be above 0"),
        ([{"type": "video", "path": "a.mp4", "max_frames": 2.5}], "it must be a whole number"),
        ([{"type": "frames", "paths": ["a.png"]}], "has no fps"),
        ([{"type": "frames", "paths": [], "fps": 1}], "media[0].paths is an empty list"),
        ([{"type": "frames", "paths": ["a.png", 3], "fps": 1}], "media[0].paths[1] is a number"),
    ],
)
def test_a_defect_of_media_is_named(tmp_path, media, what):
    assert what in the_defect(tmp_path, media=media)


@pytest.mark.skipif(os.sep != "/", reason="a backslash separates folders on this system")
def test_a_path_with_backslashes_is_refused_with_the_right_spelling(tmp_path):
    message = the_defect(tmp_path, media=[{"type": "image", "path": "images\\0007.png"}])
    assert "write 'images/0007.png'" in message


@pytest.mark.parametrize(
    ("question", "sound"),
    [
        ("Which digit?", True),
        ("<image> Which digit, and in <video>?", True),
        ("<image> Which digit?", False),
        ("<image><image> and <video>", False),
        ("<video> Which digit?", False),
    ],
)
def test_marks_in_the_question_are_none_or_one_per_item(tmp_path, question, sound):
    media = [{"type": "image", "path": "a.png"}, {"type": "frames", "paths": ["b.png", "c.png"], "fps": 2}]
    report = validate_manifest(manifest(tmp_path, row(question=question, media=media)))
    assert report.sound is sound
    if not sound:
        assert "media has 1 image(s) and 1 video(s)" in report.problems[0].message


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"id": "a"', "not JSON"),
        (b"[1, 2]", "the line is a list"),
        (b"3", "the line is a number"),
        (b'{"id": "a", "id": "b"}', "the key 'id' is given twice"),
        (b'{"id": NaN}', "NaN is not a JSON number"),
        (b'{"id": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"id": 1e999}', "1e999 is too large"),
        (b'{"id": ' + b"9" * 5000 + b"}", "a number cannot be read"),
        (b'{"id": "\\ud800"}', "half of a character"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_json_object_is_a_problem_of_that_line_only(tmp_path, line, what):
    path = tmp_path / "m.jsonl"
    path.write_bytes(json.dumps(row(id="a")).encode() + b"\n" + line + b"\n" + json.dumps(row(id="z")).encode())
    report = validate_manifest(path)
    (problem,) = report.problems
    assert what in problem.message
    assert problem.where == f"{path}:2"
    assert [sample.id for sample in report.samples] == ["a", "z"]


def test_all_defects_of_all_lines_are_reported_at_once(tmp_path):
    path = manifest(
        tmp_path,
        row(question="", tsk="x", answer={"type": "choice", "value": "D"}),
        row(id="second"),
        row(id="second", media=[{"type": "image", "path": ""}, {"type": "video", "path": "v.mp4", "fps": -1}]),
    )
    report = validate_manifest(path)
    found = [(problem.where.rsplit(":", 1)[1], problem.sample_id, problem.message[:30]) for problem in report.problems]
    assert found == [
        ("1", "digits-train-0007", "unknown key 'tsk'. Did you mea"),
        ("1", "digits-train-0007", "question is empty; fill it in "),
        ("1", "digits-train-0007", "answer.value names option D, b"),
        ("3", "second", "media[0].path is empty; fill i"),
        ("3", "second", "media[1].fps is -1; it must be"),
        ("3", "second", "the id is already used in line"),
    ]
    assert [sample.id for sample in report.samples] == ["second"]


def test_reading_lists_the_first_ten_problems_in_one_error(tmp_path):
    path = manifest(tmp_path, *[row(id=f"s{i}", question="") for i in range(13)])
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert "has 13 problems" in message
    assert message.count("question is empty") == 10
    assert "… and 3 more" in message
    assert f"mmrl data validate {path}" in message


def test_reading_a_single_problem_gives_one_line_with_file_line_and_sample(tmp_path):
    path = manifest(tmp_path, row(), row(id="x", answer=...))
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:2: sample 'x': has no 'answer'.")


def test_an_empty_manifest_is_a_problem(tmp_path):
    (tmp_path / "m.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no sample"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_missing_manifest_says_which_ones_are_there(tmp_path):
    manifest(tmp_path, row())
    with pytest.raises(DataError, match=r"Did you mean 'train.jsonl'\?"):
        read_manifest(tmp_path / "tran.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read_manifest(tmp_path)


def test_utf16_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row()), encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        read_manifest(path)


def test_a_row_parsed_alone_says_where_it_stands_and_all_its_defects(tmp_path):
    with pytest.raises(DataError, match=r"^rows.csv:3: sample 'a': has no 'task'.*; question is empty"):
        parse_sample(row(id="a", task=..., question=""), where="rows.csv:3", root=tmp_path)
    with pytest.raises(DataError, match=r"^stored.jsonl:4: unknown answer type|^stored.jsonl:4: answer.type"):
        parse_answer({"type": "nmber", "value": 3}, where="stored.jsonl:4")


def test_answers_keep_their_values():
    assert parse_answer({"type": "box", "value": [1, 2.5, 3, 4]}, where="x").value == (1, 2.5, 3, 4)
    assert parse_answer({"type": "number", "value": 3, "unit": "m"}, where="x") == Answer(
        type="number", value=3, unit="m"
    )
    assert parse_answer({"type": "choices", "value": ["C", "A"]}, where="x").value == ("C", "A")
    assert parse_answer({"type": "boxes", "value": []}, where="x").value == ()


def test_importing_the_manifest_module_loads_nothing_heavy():
    code = (
        "import sys, mmrl.data.manifest; "
        "print([m for m in ('torch', 'PIL', 'numpy', 'transformers', 'sklearn', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- writing ---------------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and "<image>" not in text and "<video>" not in text
)
names = st.from_regex(r"[a-zé0-9_ ]{0,8}[a-zé0-9_]\.png", fullmatch=True)
numbers = st.one_of(st.integers(0, 10**6), st.floats(0, 1e6))


@st.composite
def answers(draw) -> Answer:
    type_ = draw(st.sampled_from(["choice", "choices", "number", "text", "math", "box", "boxes", "point", "spans"]))
    whole = draw(st.sampled_from([("unit", 1.0), ("norm1000", 1000.0), ("pixels", 4096.0)]))

    def box() -> tuple[float, ...]:
        x1, y1 = draw(st.floats(0, 0.4)), draw(st.floats(0, 0.4))
        return tuple(value * whole[1] for value in (x1, y1, x1 + draw(st.floats(0.1, 0.5)), y1 + 0.5))

    match type_:
        case "choice":
            return Answer(type="choice", value=draw(st.sampled_from("AB")))
        case "choices":
            return Answer(type="choices", value=draw(st.sampled_from([("A",), ("B", "A")])))
        case "number":
            return Answer(type="number", value=draw(numbers), unit=draw(st.none() | words))
        case "text" | "math":
            return Answer(type=type_, value=draw(words))
        case "box":
            return Answer(type="box", value=box(), space=whole[0])
        case "boxes":
            return Answer(type="boxes", value=tuple(box() for _ in range(draw(st.integers(0, 3)))), space=whole[0])
        case "point":
            return Answer(type="point", value=box()[:2], space=whole[0])
    return Answer(type="spans", value=((1, draw(st.floats(2, 9))), (0.5, 2)))


@st.composite
def media(draw, root: Path) -> Media:
    folder = draw(st.sampled_from([root, root / "images", Path("/elsewhere")]))
    match draw(st.sampled_from(["image", "video", "frames"])):
        case "image":
            return Media(type="image", path=str(folder / draw(names)))
        case "video":
            start = draw(st.none() | st.floats(0, 5))
            return Media(type="video", path=str(folder / draw(names)), start=start, end=9.5, max_frames=4)
    return Media(type="frames", paths=tuple(str(folder / draw(names)) for _ in range(2)), fps=draw(st.floats(0.1, 60)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_writing_and_reading_gives_the_same_samples(tmp_path, data):
    plain = st.dictionaries(
        words, st.none() | st.booleans() | numbers | words | st.lists(words, max_size=2), max_size=3
    )
    samples = [
        Sample(
            id=id_,
            task=data.draw(words),
            question=data.draw(words),
            answer=data.draw(answers()),
            media=tuple(data.draw(st.lists(media(tmp_path), max_size=3))),
            choices=data.draw(st.sampled_from([("x", "y"), ("x", "y", "z")])),
            metadata=data.draw(plain),
        )
        for id_ in data.draw(st.lists(words, min_size=1, max_size=4, unique=True))
    ]
    write_manifest(tmp_path / "m.jsonl", samples)
    assert read_manifest(tmp_path / "m.jsonl") == samples


def sample(**changes) -> Sample:
    return replace(Sample(id="a", task="t", question="q?", answer=Answer(type="text", value="x")), **changes)


def test_media_below_the_manifest_are_written_relative_and_others_absolute(tmp_path):
    inside, outside = tmp_path / "set" / "images" / "a.png", tmp_path / "b.png"
    (tmp_path / "set").mkdir()
    pictures = (Media(type="image", path=str(inside)), Media(type="image", path=str(outside)))
    write_manifest(tmp_path / "set" / "m.jsonl", [sample(media=pictures)])
    written = json.loads((tmp_path / "set" / "m.jsonl").read_text())
    assert [item["path"] for item in written["media"]] == ["images/a.png", str(outside)]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"question": " "}, "question is empty"),
        ({"metadata": {"score": float("nan")}}, "cannot be written"),
        ({"metadata": {"thing": object()}}, "cannot be written"),
        ({"question": "\ud800"}, "cannot be written"),
        ({"media": (Media(type="image", path="a.png"),)}, "is relative, and to what is unknown"),
        ({"id": "first"}, "the id is already used in line 1"),
    ],
)
def test_what_could_not_be_read_back_is_not_written_and_the_old_file_stays(tmp_path, changes, what):
    path = tmp_path / "m.jsonl"
    path.write_text("old")
    with pytest.raises(DataError, match=what):
        write_manifest(path, [sample(id="first"), sample(**changes)])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_a_written_manifest_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    write_manifest(tmp_path / "m.jsonl", [sample()])
    assert (tmp_path / "m.jsonl").stat().st_mode == (tmp_path / "plain").stat().st_mode
