"""ChartQA, in its own files and two hub forms.

    {"imgname": "41699051005347.png", "query": "…?", "label": "14"}                    pictures in png/
    {"image": picture, "question": "…?", "answer": "14", "type": "human_test"}
    {"image": picture, "query": "…?", "label": ["14"], "human_or_machine": 0}

A label that is a bare number becomes one, all others stay text; the reward `chart` knows both (5 % for numbers, years
exact, text equal but for case).
"""

from __future__ import annotations

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, auto_answer, media_of, text_of


def chartqa_row(row: ForeignRow) -> ManifestRow:
    """One question."""
    gold = row.get("label") if row.get("label") is not None else row.get("answer")
    if isinstance(gold, list) and len(gold) != 1:
        raise Unfit("several answers", f"the label lists {len(gold)} answers")
    if row.get("image") is not None:
        picture = media_of(row["image"])
    else:
        picture = media_of(f"png/{text_of(row, 'imgname')}")
    origin = row.get("type", row.get("human_or_machine"))
    return {
        "id": str(row.get("imgname") or row.get("id") or "chart").rpartition(".")[0] or "chart",
        "task": "chart",
        "question": text_of(row, "query" if row.get("query") is not None else "question"),
        "media": [picture],
        "answer": auto_answer(gold, "auto"),
        "metadata": {} if origin is None else {"origin": origin},
    }
