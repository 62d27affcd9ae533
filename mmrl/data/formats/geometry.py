"""Geometry and counting with a picture: Geometry3K as EasyR1 has it, GEOQA and CLEVR counting as R1-V has them.

    geometry3k   {"images": [picture], "problem": "<image>Find x.", "answer": "3 \\sqrt{2}"}
    r1-v         {"image": picture, "problem": "How many …?", "solution": "<answer> 3 </answer>"}
                 {"image_path": "./Geo170K/images/test/0.png", "question": "… is ()", "ground_truth": "140°"}

A gold that is a bare number becomes one (exact); everything else, "140°" too, is compared as mathematics.
"""

from __future__ import annotations

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, auto_answer, media_list, tagged_answer, text_of


def geometry3k_row(row: ForeignRow) -> ManifestRow:
    """One row of the Parquet files."""
    question = text_of(row, "problem")
    media = media_list(row.get("images", row.get("image")), "image")
    marks = question.count("<image>")
    if marks not in (0, len(media)):
        raise Unfit("marks and pictures differ", f"{marks} × <image> and {len(media)} pictures")
    return {
        "id": str(row.get("id") or "geometry3k"),
        "task": "math",
        "question": question,
        "media": media,
        "answer": {"type": "math", "value": tagged_answer(text_of(row, "answer"))},
    }


def r1v_row(row: ForeignRow) -> ManifestRow:
    """One row of GEOQA_R1V_Train_8K, clevr_cogen_a_train, or of R1-V's test files."""
    gold_key = next((key for key in ("solution", "ground_truth", "answer") if row.get(key) is not None), "solution")
    gold = tagged_answer(text_of(row, gold_key))
    media = media_list(row.get("image", row.get("image_path")), "image")
    if not media:
        raise Unfit("no image", "the row has no picture")
    answer = auto_answer(gold, "auto")
    if answer["type"] == "text":
        answer["type"] = "math"
    return {
        "id": str(row.get("id") or "r1-v"),
        "task": "count" if answer["type"] == "number" else "math",
        "question": text_of(row, "problem" if row.get("problem") is not None else "question")
        .replace("<image>", "")
        .strip(),
        "media": media,
        "answer": answer,
    }
