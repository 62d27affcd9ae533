"""What was planted is found, and nothing else: precision and recall of every verb are printed and must be 1."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrl.curation.bias import manifest_bias
from mmrl.curation.decontaminate import TextMatch, decontaminate_manifest
from mmrl.curation.dedup import dedup_manifests
from mmrl.curation.media_index import Examination
from mmrl.curation.media_names import MediaMatch
from mmrl.curation.validate import Finding, validate_rows
from tests.curation.material import choice, clip, exactness, ids, jpeg, photo, reasons, row, write

WIDE, HIGH = 96, 64


def prove(what: str, found: set[str], planted: set[str]) -> None:
    precision, recall = exactness(found, planted)
    print(f"{what}: precision {precision:.2f}, recall {recall:.2f} ({len(planted)} planted)")
    assert found == planted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures and three clips, and beside them files that are broken in every way."""
    folder = tmp_path_factory.mktemp("media")
    for i in range(40):
        photo(i).save(folder / f"{i}.png")
    for i in range(3):
        clip(folder / f"{i}.mp4", i)
    whole = (folder / "0.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.png").write_bytes(b"<html>404 not found</html>")
    damaged = bytearray(whole)
    damaged[60:90] = bytes(30)
    (folder / "damaged.png").write_bytes(bytes(damaged))
    film = (folder / "0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(film[: len(film) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    return folder


def test_validate_finds_unreadable_files_and_answers_that_do_not_fit(folder: Path):
    sound = [row(f"good-{i}", image=f"{i}.png") for i in range(30)]
    sound += [
        row("box", image="1.png", answer={"type": "box", "value": [4, 4, 90, 60]}),
        row("edge", image="1.png", answer={"type": "box", "value": [0, 0, WIDE + 0.9, HIGH]}),
        row("unit", image="1.png", answer={"type": "box", "value": [0.1, 0.1, 0.9, 0.9], "space": "unit"}),
        row("film", video="1.mp4", answer={"type": "span", "value": [0.5, 2.0]}),
        row("part", media=[{"type": "video", "path": "1.mp4", "start": 0.5, "end": 1.5}]),
    ]
    broken = {
        name: row(name, image=f"{name}.png") for name in ("truncated", "empty", "words", "damaged", "missing")
    } | {"cut": row("cut", video="cut.mp4"), "empty film": row("empty film", video="empty.mp4")}
    misfits = {
        "swapped": row("swapped", image="1.png", answer={"type": "box", "value": [4, 60, 30, 90]}),
        "swapped point": row("swapped point", image="1.png", answer={"type": "point", "value": [40, 80]}),
        "outside": row("outside", image="1.png", answer={"type": "box", "value": [4, 4, 200, 150]}),
        "late": row("late", video="1.mp4", answer={"type": "span", "value": [1, 30]}),
        "begins late": row("begins late", media=[{"type": "video", "path": "1.mp4", "start": 50}]),
        "ends late": row("ends late", media=[{"type": "video", "path": "1.mp4", "end": 50}]),
    }
    defects = {
        "corners": row("corners", image="1.png", answer={"type": "box", "value": [30, 30, 10, 10]}),
        "letter": row("letter", choices=["a", "b"], answer=choice("C")),
        "no answer": {"id": "no answer", "task": "t", "question": "q?"},
        "misspelt": row("misspelt", qestion="q?"),
        "good-3": row("good-3", image="9.png"),
    }
    lines: list[dict[str, Any] | str] = [
        *sound,
        *broken.values(),
        *misfits.values(),
        *defects.values(),
        "{not json",
        "[1, 2]",
    ]
    manifest = write(folder / "all.jsonl", lines)
    found: list[Finding] = []
    report = validate_rows(manifest, examination=Examination(depth="decode"), on_finding=found.append, workers=2)
    prove("broken media", {f.id or "" for f in found if f.kind == "media"}, set(broken))
    prove("answers that do not fit", {f.id or "" for f in found if f.kind == "answer"}, set(misfits))
    prove("defective rows", {f.id or "" for f in found if f.kind == "defect"}, {*defects, ""})
    assert report.usable == len(sound)
    place = {line["id"]: number for number, line in enumerate(lines, start=1) if isinstance(line, dict)}
    assert all(f.line == place[f.id] for f in found if f.id)
    by_id = {f.id: f for f in found}
    assert by_id["swapped"].reason == by_id["swapped point"].reason == "swapped axes"
    assert by_id["missing"].reason == "missing file"
    assert by_id["truncated"].reason == "truncated image"
    assert all(f.message and f.file.endswith("all.jsonl") for f in found)


def test_dedup_finds_planted_repetitions_and_nothing_else(folder: Path, tmp_path: Path):
    rows = [row(f"a-{i}", image=str(folder / f"{i}.png"), question="What is it?") for i in range(20)]
    rows += [row(f"b-{i}", image=str(folder / f"{i}.png"), question="Which colour?") for i in range(20)]
    rows += [row(f"film-{i}", video=str(folder / f"{i}.mp4"), question="What moves?") for i in range(3)]
    texts = ["name the capital city of france please", "how many legs does a common house spider have",
             "which planet of our solar system is the largest one"]  # fmt: skip
    rows += [row(f"text-{i}", question=text) for i, text in enumerate(texts)]
    rows += [row(f"sum-{i}", question=f"How much is {i} plus 17, if you add them carefully?") for i in range(5)]
    same, near, worded, against = set(), set(), set(), set()
    for i in range(4):
        (tmp_path / f"copy{i}.bmp").parent.mkdir(exist_ok=True)
        photo(i).save(tmp_path / f"copy{i}.bmp")
        rows.append(row(f"copy-{i}", image=str(tmp_path / f"copy{i}.bmp"), question=" What  is it?"))
        same.add(f"copy-{i}")
        jpeg(photo(i + 8), 50).save(tmp_path / f"jpeg{i}.png")
        rows.append(row(f"jpeg-{i}", image=str(tmp_path / f"jpeg{i}.png"), question="What is it?"))
        near.add(f"jpeg-{i}")
        answer = {"type": "text", "value": "another"}  # looks alike, with another answer: stays
        rows.append(row(f"other-{i}", image=str(tmp_path / f"jpeg{i}.png"), question="Which colour?", answer=answer))
        rows.append(row(f"against-{i}", image=str(folder / f"{i + 4}.png"), question="What is it?", answer=answer))
        against |= {f"against-{i}", f"a-{i + 4}"}
    clip(tmp_path / "again.mp4", 1, bit_rate=150_000)
    rows.append(row("film-again", video=str(tmp_path / "again.mp4"), question="What moves?"))
    near.add("film-again")
    for i, text in enumerate(texts):
        rows.append(row(f"worded-{i}", question=f"{text.capitalize()}?!"))
        worded.add(f"worded-{i}")
    manifest = write(tmp_path / "all.jsonl", rows)
    out = tmp_path / "out.jsonl"
    dedup_manifests([manifest], out, match=MediaMatch(near=6, workers=2), near_text=0.8)
    left = reasons(tmp_path / "out.dropped.jsonl")
    prove("duplicates", {i for i, why in left.items() if why == "duplicate"}, same)
    prove("near media", {i for i, why in left.items() if why == "near duplicate media"}, near)
    prove("near text", {i for i, why in left.items() if why == "near duplicate text"}, worded)
    prove("contradictions", {i for i, why in left.items() if why == "contradictory answers"}, against)
    assert set(ids(out)) == {r["id"] for r in rows} - same - near - worded - against


def test_decontaminate_finds_planted_leaks_and_nothing_else(folder: Path, tmp_path: Path):
    test = [row(f"test-{i}", image=str(folder / f"{i}.png")) for i in range(5)]
    test += [
        row("test-film", video=str(folder / "0.mp4")),
        row("test-text", question="Who painted the Mona Lisa in Florence?"),
    ]
    train = [row(f"train-{i}", image=str(folder / f"{i}.png")) for i in range(10, 30)]
    train += [
        row("own film", video=str(folder / "1.mp4")),
        row("own text", question="Who wrote the play about Hamlet?"),
    ]
    photo(2).save(tmp_path / "same.bmp")
    jpeg(photo(3).resize((60, 40)), 70).save(tmp_path / "small.jpg")
    clip(tmp_path / "again.mp4", 0, bit_rate=150_000)
    leaks = [
        row("same picture", image=str(tmp_path / "same.bmp"), question="Something else?"),
        row("scaled", image=str(tmp_path / "small.jpg")),
        row("second of two", media=[{"type": "image", "path": str(folder / f"{i}.png")} for i in (30, 4)]),
        row("film", video=str(tmp_path / "again.mp4")),
        row("text", question="who painted the MONA LISA in florence?"),
        row("nearly", question="Who painted the Mona Lisa, in Florence ..."),
    ]
    manifest, held = write(tmp_path / "train.jsonl", [*train, *leaks]), write(tmp_path / "test.jsonl", test)
    out = tmp_path / "clean.jsonl"
    decontaminate_manifest(manifest, [held], out, match=MediaMatch(near=6, workers=2), text=TextMatch(near=0.8))
    left = reasons(tmp_path / "clean.dropped.jsonl")
    prove("leaks", set(left), {leak["id"] for leak in leaks})
    assert left["film"] == left["scaled"] == left["second of two"] == "media of the evaluation set"
    assert left["text"] == "question of the evaluation set"
    assert left["nearly"] == "question like one of the evaluation set"


def test_bias_finds_planted_shortcuts_and_nothing_else(tmp_path: Path):
    generator = np.random.Generator(np.random.PCG64(3))
    words = ["cup", "lamp", "tree", "boat", "shoe", "bird", "door", "fish", "ring", "coin"]
    rows = []

    def options() -> list[str]:
        return [words[i] for i in generator.permutation(10)[:4]]

    for i in range(250):
        letter = "ABCD"[generator.integers(4)]
        rows.append(
            row(f"fair-{i}", task="fair", question=f"What is in picture {i}?", choices=options(), answer=choice(letter))
        )
        often = "C" if generator.random() < 0.6 else letter
        rows.append(
            row(f"place-{i}", task="place", question=f"What is in view {i}?", choices=options(), answer=choice(often))
        )
        long = options()
        place = int(generator.integers(4))
        long[place] += " with a much longer description"
        right = place if generator.random() < 0.8 else int(generator.integers(4))
        rows.append(
            row(f"long-{i}", task="long", question=f"What is at {i}?", choices=long, answer=choice("ABCD"[right]))
        )
        colour, fruit = [("red", "cherry"), ("green", "lime"), ("blue", "plum")][generator.integers(3)]
        rows.append(
            row(
                f"hint-{i}",
                task="hint",
                question=f"Which {colour} fruit is in {i}?",
                answer={"type": "text", "value": fruit},
            )
        )
        value = ["cherry", "lime", "plum"][generator.integers(3)]
        rows.append(
            row(f"open-{i}", task="open", question=f"Which fruit is in {i}?", answer={"type": "text", "value": value})
        )
    found = manifest_bias(write(tmp_path / "all.jsonl", rows), workers=1)
    seen = {f"{shortcut.task}: {shortcut.kind}" for shortcut in found.found}
    prove("short cuts", seen, {"place: position", "long: longest option", "long: text", "hint: text"})
    hint = next(s for s in found.shortcuts if s.task == "hint" and s.kind == "text")
    assert hint.reached > 0.95
    assert hint.expected < 0.45
