"""MathVista and MMMU: pictures with options, or free answers.

    mathvista  {"pid": "1", "question": "…", "image": "images/1.jpg", "decoded_image": picture, "choices": ["1", "2"] or
                null, "precision": 1.0, "answer": "2", "question_type": "multi_choice", "answer_type": "text"}
    mmmu       {"id": "validation_Art_1", "question": "… <image 1> …", "options": "['a', 'b']", "answer": "B",
                "image_1": picture, …, "image_7": null, "question_type": "multiple-choice"}

MathVista's gold is an option's text; here it becomes its letter. Float answers are right within the precision they are
given in, which is kept in metadata. MMMU's options are Python lists in text; its pictures come first, in order, and the
marks in question and options become "image 1", as options may name pictures too.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, auto_answer, media_of, text_of

_MARK = re.compile(r"<image (\d)>")


def mathvista_row(row: ForeignRow) -> ManifestRow:
    """One row of the Parquet or JSON files."""
    picture = row.get("decoded_image") if row.get("decoded_image") is not None else row.get("image")
    given = row.get("choices")
    choices = given if isinstance(given, list | tuple) else ()
    kind = str(row.get("answer_type") or "text")
    if row.get("question_type") == "multi_choice":
        if len(choices) < 2:
            raise Unfit("no options", "a question of type multi_choice needs at least two options")
        answer = auto_answer(row.get("answer"), "choice", [str(choice) for choice in choices])
    else:
        choices = ()
        wanted = {"integer": "number", "float": "number", "list": "math"}.get(kind, "text")
        answer = auto_answer(row.get("answer"), wanted)
        if wanted == "number" and row.get("unit"):
            answer["unit"] = str(row["unit"])
    kept = {key: row[key] for key in ("precision", "answer_type", "unit") if row.get(key) is not None}
    made: ManifestRow = {
        "id": f"mathvista-{text_of(row, 'pid')}",
        "task": {"choice": "choice", "number": "number"}.get(answer["type"], "text"),
        "question": text_of(row, "question"),
        "media": [media_of(picture)],
        "answer": answer,
        "metadata": kept,
    }
    return {**made, "choices": [str(choice) for choice in choices]} if choices else made


def mmmu_row(row: ForeignRow) -> ManifestRow:
    """One row."""
    options = [_MARK.sub(r"image \1", option) for option in _options(row.get("options"))]
    held = [row[f"image_{number}"] for number in range(1, 8) if row.get(f"image_{number}") is not None]
    question = text_of(row, "question")
    named = {int(number) for number in _MARK.findall(question + str(row.get("options")))}
    if any(number > len(held) for number in named):
        raise Unfit("no image", f"the text names image {max(named)} and the row has {len(held)}")
    multiple = row.get("question_type") == "multiple-choice"
    if multiple and len(options) < 2:
        raise Unfit("no options", "a question of type multiple-choice needs at least two options")
    gold = row.get("answer")
    if not multiple and isinstance(gold, str) and gold.startswith("["):
        raise Unfit("several answers", "an open question with a list of right answers cannot be one answer")
    answer = auto_answer(gold, "choice" if multiple else "auto", options if multiple else ())
    made: ManifestRow = {
        "id": text_of(row, "id"),
        "task": {"choice": "choice", "number": "number"}.get(answer["type"], "text"),
        "question": _MARK.sub(r"image \1", question),
        "media": [media_of(cell) for cell in held],
        "answer": answer,
        "metadata": {key: row[key] for key in ("subfield", "topic_difficulty", "img_type") if row.get(key)},
    }
    return {**made, "choices": options} if multiple else made


def _options(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise Unfit("options are no list", f"the options {value[:40]!r} are no list") from None
    return [str(option) for option in value] if isinstance(value, list | tuple) else []
