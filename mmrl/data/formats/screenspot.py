"""ScreenSpot: where to click. Boxes in two spaces.

    JSON list (v1, v2)   {"img_filename": "pc_ab.png", "bbox": [x, y, width, height], "instruction": "close this",
                          "data_type": "icon", "data_source": "windows"}             pixels
    hub rows             {"file_name": "…", "bbox": [x1, y1, x2, y2], "image": picture, …}   shares of the picture, 0–1
    ScreenSpot-Pro       {"img_filename": "…", "bbox": [x1, y1, x2, y2], "img_size": [w, h], …}       pixels

Scored by whether a point lies in the box, edges included.
"""

from __future__ import annotations

from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, media_of, text_of


def screenspot_row(row: ForeignRow) -> ManifestRow:
    """One instruction."""
    box = row.get("bbox")
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise Unfit("answer is no box", "bbox is no list of four numbers")
    a, b, c, d = box
    if max(box) <= 1:
        answer: dict[str, Any] = {"type": "box", "value": [a, b, c, d], "space": "unit"}
    elif row.get("img_size") is not None:
        answer = {"type": "box", "value": [a, b, c, d]}
    else:
        answer = {"type": "box", "value": [a, b, a + c, b + d]}
    name = str(row.get("img_filename") or row.get("file_name") or row.get("id") or "screen")
    picture = media_of(row["image"]) if row.get("image") is not None else media_of(name)
    kept = {key: row[key] for key in ("data_type", "ui_type", "data_source", "group", "platform") if row.get(key)}
    return {
        "id": name.rpartition(".")[0] or name,
        "task": "point",
        "question": f"Where is this on the screen? {text_of(row, 'instruction')}",
        "media": [picture],
        "answer": answer,
        "metadata": kept,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
