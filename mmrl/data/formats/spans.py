"""When does it happen? Charades-STA and ActivityNet Captions.

    charades_sta_train.txt       AO8RW 0.0 6.9##a person is putting a book on a shelf.
    charades.json, activitynet   {"AO8RW": {"duration": 33.75, "timestamps": [[0.0, 6.9]], "sentences": ["a person …"]}}

Videos are `<name><video_suffix>` in the media folder; the recipe's `constants` set video_suffix (default .mp4). Spans
that pass the end of the clip are cut there; reversed and empty ones are left out.
"""

from __future__ import annotations

import math
import re
from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, relative_path, text_of

_LINE = re.compile(r"\s*(\S+)\s+(\S+)\s+(\S+?)\s*##\s*(.*\S)\s*")


def spans_rows(row: ForeignRow) -> list[ManifestRow | Unfit]:
    """One line of the text file, or one video of the JSON file with all its sentences."""
    suffix = str(row.get("video_suffix", ".mp4"))
    if "line" in row:
        match = _LINE.fullmatch(str(row["line"]))
        if match is None:
            raise Unfit("unreadable line", "the line is not of the form: NAME START END##SENTENCE")
        return [_caught(match[1], [match[2], match[3]], match[4], None, suffix, 0)]
    name = text_of(row, "key")
    spans, sentences = row.get("timestamps"), row.get("sentences")
    if not isinstance(spans, list) or not isinstance(sentences, list) or len(spans) != len(sentences):
        raise Unfit("sentences and timestamps differ", "each sentence needs one [start, end]")
    duration = row.get("duration")
    length = _seconds(duration) if duration is not None else None
    return [
        _caught(name, span, str(sentence), length, suffix, number)
        for number, (span, sentence) in enumerate(zip(spans, sentences, strict=True))
    ]


def _caught(*values: Any) -> ManifestRow | Unfit:
    try:
        return _sentence(*values)
    except Unfit as why:
        return why


def _sentence(name: str, span: Any, text: str, duration: float | None, suffix: str, number: int) -> ManifestRow:
    sentence = " ".join(text.split())
    if not sentence:
        raise Unfit("no sentence", f"{name}: the sentence is empty")
    if not isinstance(span, list) or len(span) != 2:
        raise Unfit("span is no pair", f"{name}: the span is no [start, end]")
    start, end = _seconds(span[0]), _seconds(span[1])
    if end < start:
        raise Unfit("span is reversed", f"{name}: it starts at {start:g} s and ends at {end:g} s")
    if duration is not None:
        end = min(end, duration)
    if end <= start or start < 0:
        raise Unfit("span is empty", f"{name}: nothing lies between {start:g} s and {end:g} s of the clip")
    metadata = {"video": name} | ({} if duration is None else {"duration": duration})
    return {
        "id": f"{name}-{number}" if duration is not None else f"{name}-{start:g}-{end:g}",
        "task": "span",
        "question": f"When does this happen in the video? {sentence} Give start and end in seconds.",
        "media": [{"type": "video", "path": relative_path(f"{name}{suffix}")}],
        "answer": {"type": "span", "value": [start, end]},
        "metadata": metadata,
    }


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not math.isfinite(seconds):
        raise Unfit("time is no number", f"{str(value)[:40]!r} is no number of seconds")
    return seconds
