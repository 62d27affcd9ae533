"""Video-R1 (Video-R1-260k, Video-R1-CoT-165k and its evaluation files): a JSON list.

    {"problem_id": 7, "problem": "What does the man pick up?", "data_type": "video", "problem_type": "multiple choice",
     "options": ["A. cup", "B. book"], "process": "", "solution": "<answer>B</answer>",
     "path": "./CLEVRER/train/v1.mp4", "data_source": "CLEVRER"}

`process` holds a written-out reasoning in the CoT file; it is kept as metadata["reasoning"].
"""

from __future__ import annotations

from typing import Any

from mmrl.data.formats.row import (
    ForeignRow,
    ManifestRow,
    Unfit,
    choice_answer,
    letters_of,
    number_of,
    relative_path,
    tagged_answer,
    text_of,
    without_letters,
)

TASKS = {
    "multiple choice": "choice",
    "numerical": "number",
    "regression": "regression",
    "OCR": "ocr",
    "free-form": "text",
}


def video_r1_row(row: ForeignRow) -> ManifestRow:
    """One row of the list."""
    kind = text_of(row, "problem_type")
    if kind not in TASKS:
        raise Unfit("unknown problem type", f"problem_type is {kind!r}; known are {', '.join(TASKS)}")
    medium = text_of(row, "data_type")
    if medium not in ("image", "video"):
        raise Unfit("unknown data type", f"data_type is {medium!r}; known are image and video")
    solution = tagged_answer(text_of(row, "solution"))
    source = str(row.get("data_source") or "video-r1")
    metadata: dict[str, Any] = {"source": source}
    if row.get("process"):
        metadata["reasoning"] = str(row["process"]).removeprefix("<think>").removesuffix("</think>").strip()
    made: ManifestRow = {
        "id": f"{source}-{text_of(row, 'problem_id')}",
        "task": TASKS[kind],
        "question": text_of(row, "problem"),
        "media": [{"type": medium, "path": relative_path(text_of(row, "path").removeprefix(".").lstrip("/"))}],
        "metadata": metadata,
    }
    if kind == "multiple choice":
        options = row.get("options")
        made["choices"] = without_letters(options if isinstance(options, list) else [])
        made["answer"] = choice_answer(letters_of(solution), made["choices"])
    elif kind in ("numerical", "regression"):
        made["answer"] = {"type": "number", "value": number_of(solution)}
    else:
        made["answer"] = {"type": "text", "value": solution}
    return made
