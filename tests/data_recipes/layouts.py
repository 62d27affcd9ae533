"""Public data sets in small: a few rows each, in the layout that their authors publish, with one broken row.

Every function writes into an empty folder and returns the settings with which its recipe builds from there.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image


def png(shade: int, side: int = 8) -> bytes:
    """A small picture of its own."""
    file = io.BytesIO()
    picture = Image.new("RGB", (side, side), (shade % 256, 90, 200))
    picture.putpixel((0, 0), (shade // 256, shade % 7, 1))
    picture.save(file, format="PNG")
    return file.getvalue()


def files(folder: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number) if path.suffix in (".png", ".jpg") else b"\0\0\0\x18ftypmp42" + bytes([number]))


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def lines(path: Path, rows: Sequence[Any]) -> None:
    text(path, "".join(json.dumps(row) + "\n" for row in rows))


def cell(shade: int) -> dict[str, Any]:
    """A picture as Parquet files of the hub hold it."""
    return {"bytes": png(shade), "path": f"{shade}.png"}


def hub_folder(folder: Path, splits: dict[str, list[dict[str, Any]]], images: Sequence[str] = ("image",)) -> None:
    """A data set repository: data/<split>-00000-of-00001.parquet with picture columns."""
    import datasets  # type: ignore[import-untyped]

    for split, rows in splits.items():
        table = datasets.Dataset.from_list(rows)
        for column in images:
            kind = datasets.Image()
            table = table.cast_column(column, datasets.List(kind) if isinstance(rows[0][column], list) else kind)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def seed_bench_r1(folder: Path) -> list[str]:
    def row(number: int, **changes: Any) -> dict[str, Any]:
        return {
            "sample_id": number,
            "task_goal": "make coffee",
            "question": f"What action should I take next? ({number})",
            "answer": "pour water",
            "negative_answers": ["open fridge", "wash cup", "cut bread"],
            "task_progress_metadata": [{"narration_text": "fill kettle", "start_frame": 120, "stop_frame": 310}],
            "task_start_frame": 100,
            "current_observation_frame": 330,
            "video_id": "P01_01",
            "video_source": "EpicKitchens",
            "video_basename": f"{number}.mp4",
            "current_observation_basename": f"{number}.png",
            **changes,
        }

    def held_out(number: int, level: str) -> dict[str, Any]:
        options = {"choice_a": "open fridge", "choice_b": "wash cup", "choice_c": "pour water", "choice_d": "cut bread"}
        return row(number, **options, golden_choice_idx="C", task_level=level, scenario="x", domain="y")

    lines(folder / "annotations/training_6k.jsonl", [row(1), row(2, task_progress_metadata=[]), row(3, answer=None)])
    for number, level in enumerate(("L1", "L2", "L3"), start=11):
        lines(folder / f"annotations/validation_{level}.jsonl", [held_out(number, level)])
    files(folder, [f"videos/EpicKitchens/{n}.mp4" for n in (1, 2, 3, 11, 12, 13)])
    files(folder, [f"images/EpicKitchens/{n}.png" for n in (1, 2, 3, 11, 12, 13)])
    return [f"root={folder}"]


def video_r1(folder: Path) -> list[str]:
    kinds = [
        ("multiple choice", ["A. cup", "B. book"], "B"),
        ("numerical", [], "3.50"),
        ("OCR", [], "EXIT 12"),
        ("free-form", [], "a red car on the street"),
        ("regression", [], "12.5"),
        ("numerical", [], "three metres or so"),
    ]
    rows: list[dict[str, Any]] = [
        {
            "problem_id": number,
            "problem": f"Question {number}?",
            "data_type": "video" if number % 2 else "image",
            "problem_type": kind,
            "options": options,
            "process": "<think>I look.</think>",
            "solution": f"<answer>{gold}</answer>",
            "path": f"./CLEVRER/v{number}.{'mp4' if number % 2 else 'png'}",
            "data_source": "CLEVRER",
        }
        for number, (kind, options, gold) in enumerate(kinds)
    ]
    text(folder / "Video-R1-260k.json", json.dumps(rows, indent=1))
    files(folder, [row["path"].removeprefix("./") for row in rows])
    return [f"root={folder}", "n_train=3", "n_validation=1", "n_test=1"]


def _vsi_rows() -> list[dict[str, Any]]:
    return [
        {"id": 1, "dataset": "scannet", "scene_name": "scene0001_00", "question_type": "object_counting",
         "question": "How many chair(s) are in this room?", "ground_truth": "4", "options": None},
        {"id": 2, "dataset": "scannet", "scene_name": "scene0001_00", "question_type": "object_rel_distance",
         "question": "Which is closest to the door?", "ground_truth": "B",
         "options": ["A. chair", "B. table", "C. bed", "D. lamp"]},
        {"id": 3, "dataset": "arkitscenes", "scene_name": "4711", "question_type": "room_size_estimation",
         "question": "How large is the room in square metres?", "ground_truth": "23.4", "options": None},
        {"id": 4, "dataset": "arkitscenes", "scene_name": "4712", "question_type": "object_abs_distance",
         "question": "How far is it?", "ground_truth": "0", "options": None},
    ]  # fmt: skip


def vsi_bench(folder: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_vsi_rows()), folder / "test-00000-of-00001.parquet")
    files(folder, ["scannet/scene0001_00.mp4", "arkitscenes/4711.mp4", "arkitscenes/4712.mp4"])
    return [f"root={folder}"]


def vsi_100k(folder: Path) -> list[str]:
    rows = [
        {"scene": f"scene{number:04d}_00", "question_type": "object_counting", "question": f"How many chairs ({turn})?",
         "answer": 2 + turn}
        for number in range(4)
        for turn in range(2)
    ]  # fmt: skip
    text(folder / "VSI-100k.json", json.dumps([*rows, {**rows[0], "answer": "many"}]))
    files(folder / "videos", [f"scene{number:04d}_00.mp4" for number in range(4)])
    return [f"root={folder}", "n_train=2", "n_validation=1", "n_test=1"]


def refcoco(folder: Path) -> list[str]:
    def row(number: int, box: Any, picture: int) -> dict[str, Any]:
        asked = "<image>Please provide the bounding box coordinate of the region this sentence describes: the left dog."
        return {
            "id": number,
            "image": f"train2014/COCO_train2014_{picture:012d}.jpg",
            "conversations": [{"from": "human", "value": f"{asked} {number}"}, {"from": "gpt", "value": box}],
        }

    for number, name in enumerate(("refcoco", "refcocop", "refcocog")):
        train = [row(10 * number, "[1, 2, 6, 7]", number), row(10 * number + 1, [0, 0, 5, 5], number)]
        if name == "refcoco":
            train.append(row(99, "[5, 6, 3, 2]", number))
        lines(folder / f"rec_jsons_processed/{name}_train.jsonl", train)
        test = {
            "image": f"train2014/COCO_train2014_{100 + number:012d}.jpg",
            "problem": "Please provide the bounding box coordinate of the region: the right dog.",
            "solution": [2, 2, 4, 4],
        }
        (folder / f"rec_jsons_processed/{name}_val.json").write_text(json.dumps([test]))
    files(folder, [f"coco/train2014/COCO_train2014_{n:012d}.jpg" for n in (0, 1, 2, 100, 101, 102)])
    return [f"root={folder}"]


def geometry3k(folder: Path) -> list[str]:
    def row(shade: int, answer: str, problem: str = "<image>Find x.") -> dict[str, Any]:
        return {"images": [cell(shade)], "problem": problem, "answer": answer}

    train = [row(1, "3 \\sqrt{2}"), row(2, "7"), row(3, "5", "<image><image>Find y."), row(4, " ")]
    hub_folder(folder, {"train": train, "validation": [row(5, "12.5")], "test": [row(6, "48")]}, ("images",))
    return [f"hub={{name: {folder}, splits: {{train: train, validation: validation, test: test}}}}"]


def geoqa(folder: Path) -> list[str]:
    rows = [
        {"image": cell(n), "problem": f"What is the angle? ({n})", "solution": f"<answer> {gold} </answer>"}
        for n, gold in enumerate(("140°", "35", "2\\sqrt{3}", " "))
    ]
    hub_folder(folder, {"train": rows})
    return [f"hub={{name: {folder}}}", "n_train=1", "n_validation=1", "n_test=1"]


def clevr_count(folder: Path) -> list[str]:
    asked = "How many different items are there in the image?"
    rows = [{"image": cell(n), "problem": asked, "solution": f"<answer> {n} </answer>"} for n in range(3, 7)]
    hub_folder(folder, {"train": [*rows, {**rows[0], "solution": ""}]})
    return [f"hub={{name: {folder}}}", "n_train=2", "n_validation=1", "n_test=1"]


def charades_sta(folder: Path) -> list[str]:
    train = [
        "AO8RW 0.0 6.9##a person is putting a book on a shelf.",
        "AO8RW 12.5 20.1##the person sits down.",
        "BAD01 9.0 3.0##a person walks backwards.",
        "no span at all",
    ]
    text(folder / "charades_sta_train.txt", "\n".join(train) + "\n")
    text(folder / "charades_sta_test.txt", "3MSZA 24.3 30.4##person turn a light on.\n")
    files(folder, [f"Charades_v1_480/{name}.mp4" for name in ("AO8RW", "BAD01", "3MSZA")])
    return [f"root={folder}"]


def activitynet_captions(folder: Path) -> list[str]:
    def clip(name: str, *spans: list[float]) -> dict[str, Any]:
        said = [f" A man rows a boat in {name}, part {number}." for number, _ in enumerate(spans)]
        return {name: {"duration": 30.0, "timestamps": list(spans), "sentences": said}}

    text(folder / "train.json", json.dumps(clip("v_a", [0.5, 12], [10, 30.2], [30.0, 30.4]) | clip("v_b", [1, 2])))
    text(folder / "val_1.json", json.dumps(clip("v_c", [3, 4.5])))
    text(folder / "val_2.json", json.dumps(clip("v_d", [3, 4.5])))
    files(folder, [f"videos/{name}.mp4" for name in ("v_a", "v_b", "v_c", "v_d")])
    return [f"root={folder}"]


def screenspot(folder: Path) -> list[str]:
    def row(name: str, box: Any) -> dict[str, Any]:
        return {"img_filename": f"{name}.png", "bbox": box, "instruction": f"close {name}", "data_type": "icon",
                "data_source": "windows"}  # fmt: skip

    text(folder / "screenspot_desktop.json", json.dumps([row("pc_a", [1, 2, 4, 3]), row("pc_b", [1, 2, 4])]))
    text(folder / "screenspot_web.json", json.dumps([row("web_a", [0, 0, 5, 5])]))
    files(folder / "screenspot_imgs", ["pc_a.png", "pc_b.png", "web_a.png"])
    return [f"root={folder}"]


def chartqa(folder: Path) -> list[str]:
    shade = 0
    for split in ("train", "val", "test"):
        for kind in ("human", "augmented"):
            rows = [
                {"imgname": f"{kind}{number}.png", "query": f"What is it in {split} {kind} {number}?", "label": label}
                for number, label in enumerate(("14", "Yes", "12.5%"))
            ]
            if (split, kind) == ("train", "human"):
                rows.append({"imgname": "lost.png", "query": "Where?", "label": "5"})
            text(folder / split / f"{split}_{kind}.json", json.dumps(rows))
            for number in range(3):
                shade += 1
                path = folder / split / "png" / f"{kind}{number}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(png(shade))
    return [f"root={folder}"]


def mathvista(folder: Path) -> list[str]:
    base: dict[str, Any] = {"unit": None, "precision": None, "image": "images/1.jpg", "choices": None}
    base["question_type"] = "free_form"
    rows = [
        {**base, "pid": "1", "question": "Which?", "decoded_image": cell(1), "choices": ["145°", "135°"],
         "answer": "135°", "question_type": "multi_choice", "answer_type": "text"},
        {**base, "pid": "2", "question": "How many?", "decoded_image": cell(2), "answer": "4",
         "answer_type": "integer"},
        {**base, "pid": "3", "question": "How long?", "decoded_image": cell(3), "answer": "1.2", "precision": 1.0,
         "answer_type": "float"},
        {**base, "pid": "4", "question": "Which list?", "decoded_image": cell(4), "answer": "[1, 2]",
         "answer_type": "list"},
        {**base, "pid": "5", "question": "Which?", "decoded_image": cell(5), "choices": ["a", "b"], "answer": "c",
         "question_type": "multi_choice", "answer_type": "text"},
    ]  # fmt: skip
    hub_folder(folder, {"testmini": rows}, ("decoded_image",))
    return [f"hub={{name: {folder}, splits: {{test: testmini}}}}"]


def mmmu(folder: Path) -> list[str]:
    def row(number: int, **changes: Any) -> dict[str, Any]:
        pictures = {f"image_{n}": cell(10 * number + n) if n <= 2 else None for n in range(1, 8)}
        return {"id": f"validation_Art_{number}", "question": "Which is <image 1>?", "options": "['a', \"b's\"]",
                "answer": "B", "question_type": "multiple-choice", "subfield": "Painting",
                **pictures, **changes}  # fmt: skip

    rows = [
        row(1),
        row(2, options="['<image 1>', '<image 2>', 'none']", answer="A"),
        row(3, question_type="open", options="[]", answer="24.5"),
        row(4, answer="F"),
    ]
    hub_folder(folder, {"validation": rows}, [f"image_{n}" for n in range(1, 8)])
    return [f"hub={{name: {folder}, splits: {{test: validation}}}}"]


def sharegpt(folder: Path) -> list[str]:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"<image>What is {n}?"},
                      {"role": "assistant", "content": gold}], "images": [f"a/{n}.png"], "videos": []}
        for n, gold in enumerate(("A cat", "12", "a dog"))
    ]  # fmt: skip
    rows.append({"conversations": [{"from": "human", "value": "<video>How long?"}, {"from": "gpt", "value": "3"}],
                 "videos": ["v/1.mp4"]})  # fmt: skip
    rows.append({**rows[0], "images": ["a/0.png", "a/1.png"]})
    text(folder / "rows.json", json.dumps(rows))
    files(folder, ["a/0.png", "a/1.png", "a/2.png", "v/1.mp4"])
    return [f"root={folder}", "n_train=2", "n_validation=1", "n_test=1"]


def trl_rows(folder: Path) -> list[str]:
    rows = [
        {"prompt": [{"role": "user", "content": f"What is {n}?"}], "image": cell(n), "solution": gold}
        for n, gold in enumerate(("<answer>7</answer>", "x^2", "12"))
    ]
    hub_folder(folder, {"train": [*rows, {**rows[0], "solution": ""}]})
    return [f"hub={{name: {folder}}}", "n_train=1", "n_validation=1", "n_test=1"]


def image_folder(folder: Path) -> list[str]:
    files(folder, [*(f"cat/{n}.png" for n in range(3)), *(f"dog/{n + 10}.png" for n in range(3)), "bird/1.png"])
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        path.write_bytes(png(number))
    return [f"root={folder}", "n_train=4", "n_validation=1", "n_test=1"]


def hub_table(folder: Path) -> list[str]:
    rows = [{"picture": cell(n), "query": f"How many ({n})?", "label": str(n), "note": "x"} for n in range(1, 5)]
    hub_folder(folder, {"train": [*rows, {**rows[0], "query": None}]}, ("picture",))
    return [
        f"hub={{name: {folder}}}",
        "columns={question: query, answer: label, image: picture}",
        "n_train=2",
        "n_validation=1",
        "n_test=1",
    ]


def webdataset(folder: Path) -> list[str]:
    rows: list[dict[str, Any]] = [
        {"question": "Which?", "answer": "b", "choices": ["a", "b"]},
        {"question": "How many?", "answer": 4},
        {"question": "Where?", "answer": [1, 2, 5, 6], "answer_type": "box"},
        {"question": "What?"},
    ]
    with tarfile.open(folder / "shard-000000.tar", "w") as shard:
        for number, row in enumerate(rows):
            members = ((f"{number:04d}.jpg", png(number)), (f"{number:04d}.json", json.dumps(row).encode()))
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return [f"root={folder}", "n_train=1", "n_validation=1", "n_test=1"]


def base64_table(path: Path) -> None:
    """A table as VLMEvalKit has them: tab-separated, pictures in base64."""
    picture = base64.b64encode(png(1, side=64)).decode() + base64.b64encode(b"\0" * 300).decode()
    text(path, f"index\timage\tquestion\tanswer\n1\t{picture}\tHow many?\t3\n")


LAYOUTS: dict[str, Callable[[Path], list[str]]] = {
    function.__name__: function
    for function in (
        seed_bench_r1, video_r1, vsi_bench, vsi_100k, refcoco, geometry3k, geoqa, clevr_count, charades_sta,
        activitynet_captions, screenspot, chartqa, mathvista, mmmu, sharegpt, trl_rows, image_folder, hub_table,
        webdataset,
    )
}  # fmt: skip
