"""Any table, by the names of its columns: hub data sets, Parquet, CSV, folders of pictures, tar shards.

    question, answer, choices, image or images, video or videos, id, task, answer_type

A recipe's `columns` says which of the table's columns is which (`{answer: label, image: file_name}`), its `constants`
what no column says (`{question: "What is shown?", choices: [cat, dog], answer_type: choice}`). The answer may be a
letter, an option's text or its number from 0, a number, a box, a span, a text.
"""

from __future__ import annotations

import json
from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, auto_answer, media_list, text_of, without_letters

_JPEG = ("jpg", "jpeg", "png", "webp")
_CLIPS = ("mp4", "webm", "mkv")


def columns_row(row: ForeignRow) -> ManifestRow:
    """One row."""
    inside = row.get("json")  # a tar shard keeps its fields in a member of their own
    fields: dict[str, Any] = {**inside, **row} if isinstance(inside, dict) else dict(row)
    images = media_list(_first(fields, ("images", "image", "file_name", *_JPEG)), "image")
    videos = media_list(_first(fields, ("videos", "video", *_CLIPS)), "video")
    if not images and not videos:
        raise Unfit("no media", "the row has neither picture nor clip; say which column holds it: columns: {image: …}")
    choices = fields.get("choices")
    if isinstance(choices, str):
        try:
            choices = json.loads(choices)
        except ValueError:
            raise Unfit("options are no list", f"the options {choices[:40]!r} are no JSON list") from None
    options = without_letters(choices) if isinstance(choices, list | tuple) and choices else []
    answer = auto_answer(fields.get("answer"), str(fields.get("answer_type") or "auto"), options)
    made: ManifestRow = {
        "id": str(_first(fields, ("id", "__key__", "file_name")) or "row"),
        "task": str(fields.get("task") or answer["type"]),
        "question": text_of(fields, "question"),
        "media": [*images, *videos],
        "answer": answer,
    }
    return {**made, "choices": options} if options else made


def _first(fields: ForeignRow, keys: tuple[str, ...]) -> Any:
    return next((fields[key] for key in keys if fields.get(key) is not None), None)
