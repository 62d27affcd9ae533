"""VSI-Bench (Parquet or JSON) and VSI-100k: questions about rooms that were walked through.

    {"id": 12, "dataset": "scannet", "scene_name": "scene0123_00", "question_type": "object_counting",
     "question": "How many chair(s) are in this room?", "ground_truth": "4", "options": null}

The video is `<dataset>/<scene_name>.mp4`. Options stand there with their letters. Numbers are scored by mean relative
accuracy, which divides by the gold: one that is not above 0 cannot be scored. VSI-100k's own names of columns are
taken too as far as they are the obvious ones (scene, answer, video); others are named in the recipe's `columns`.
"""

from __future__ import annotations

from mmrl.data.formats.row import (
    ForeignRow,
    ManifestRow,
    Unfit,
    auto_answer,
    number_of,
    relative_path,
    tagged_answer,
    text_of,
    without_letters,
)

NUMBERS = ("object_abs_distance", "object_counting", "object_size_estimation", "room_size_estimation")


def vsi_row(row: ForeignRow) -> ManifestRow:
    """One row."""
    scene = text_of(row, "scene_name" if row.get("scene_name") is not None else "scene")
    dataset = str(row.get("dataset") or "")
    kind = text_of(row, "question_type")
    gold = row.get("ground_truth") if row.get("ground_truth") is not None else row.get("answer")
    options = row.get("options")
    video = row.get("video")
    path = (
        relative_path(video) if isinstance(video, str) else "/".join(part for part in (dataset, f"{scene}.mp4") if part)
    )
    made: ManifestRow = {
        "id": f"{scene}-{row['id']}" if row.get("id") is not None else f"{scene}-{kind}",
        "task": "vsi_choice" if options else "vsi_number",
        "question": text_of(row, "question"),
        "media": [{"type": "video", "path": path}],
        "metadata": {"source": dataset or "vsi", "scene": scene, "question_type": kind},
    }
    if isinstance(options, list) and options:
        made["choices"] = without_letters(options)
        return {**made, "answer": auto_answer(gold, "choice", made["choices"])}
    if kind not in NUMBERS and kind.startswith(("object_rel", "route", "obj_app")):
        raise Unfit("no options", f"a question of type {kind!r} needs options")
    value = number_of(tagged_answer(str(gold)))
    if value <= 0:
        raise Unfit("gold is not above 0", f"relative accuracy divides by the gold, which is {value}")
    return {**made, "answer": {"type": "number", "value": value}}
