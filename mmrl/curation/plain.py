"""The sample of a row that is plainly sound, three times as fast as looking for everything that may be wrong.

A million rows are read several times, and nearly all are sound. This look knows only the ordinary: every value of the
one expected type, every key known, nothing to explain. What it does not recognise at once it leaves to `examine_row`,
which alone decides what a defect is; where both give a sample, it is the same (tested).
"""

from __future__ import annotations

from math import inf
from typing import Any

from mmrl.data.answers import ANSWERS
from mmrl.types import LETTERS, Answer, Media, Sample

_KEYS = frozenset(("id", "task", "question", "media", "choices", "answer", "metadata"))
_ANSWER_KEYS = frozenset(("type", "value"))
_LETTERS = frozenset(LETTERS)


def plain_sample(row: Any, root: str) -> Sample | None:
    """The sample of a row whose paths are relative to the folder `root` (absolute, normal); None: look closely."""
    if type(row) is not dict or not _KEYS.issuperset(row):
        return None
    id_, task, question = row.get("id"), row.get("task"), row.get("question")
    if not (type(id_) is str and type(task) is str and type(question) is str):
        return None
    if not (id_.strip() and task.strip() and question.strip()):
        return None
    metadata = row.get("metadata")
    if metadata is not None and type(metadata) is not dict:
        return None
    choices = _choices(row.get("choices"))
    media = _media(row.get("media"), question, root)
    if choices is None or media is None:
        return None
    answer = _answer(row.get("answer"), len(choices))
    if answer is None:
        return None
    return Sample(
        id=id_, task=task, question=question, answer=answer, media=media, choices=choices, metadata=metadata or {}
    )


def _choices(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return ()
    if type(value) is not list or not 2 <= len(value) <= 26:
        return None
    seen = set()
    for text in value:
        if type(text) is not str or not text or text[0].isspace() or text[-1].isspace() or "  " in text:
            return None
        if not text.isprintable():  # another white space than single spaces
            return None
        seen.add(text)
    return tuple(value) if len(seen) == len(value) else None


def _media(value: Any, question: str, root: str) -> tuple[Media, ...] | None:
    """Pictures and whole clips only, none or all of them marked in the question."""
    if value is None:
        return () if "<image>" not in question and "<video>" not in question else None
    if type(value) is not list:
        return None
    items = []
    images = videos = 0
    for item in value:
        if type(item) is not dict or len(item) != 2:
            return None
        type_, path = item.get("type"), item.get("path")
        if type_ == "image":
            images += 1
        elif type_ == "video":
            videos += 1
        else:
            return None
        if type(path) is not str or not path.isprintable() or path[:1] in ("", "/", ".", " "):
            return None
        if ":" in path or "\\" in path or "//" in path or "/." in path or path[-1] in "/ ":
            return None
        items.append(Media(type=type_, path=f"{root}/{path}"))
    marks = question.count("<image>"), question.count("<video>")
    return tuple(items) if marks in ((0, 0), (images, videos)) else None


def _answer(value: Any, choices: int) -> Answer | None:
    if type(value) is not dict or len(value) != 2 or not _ANSWER_KEYS.issuperset(value):
        return None
    type_, content = value["type"], value["value"]
    if type_ == "choice":
        if type(content) is str and content in _LETTERS and (not choices or ord(content) - 65 < choices):
            return Answer(type="choice", value=content)
        return None
    if type(content) is str:
        return Answer(type=type_, value=content) if type_ in ("text", "math") and content.strip() else None
    if type_ == "number" and type(content) in (int, float):
        return Answer(type="number", value=content) if -inf < content < inf else None
    if type_ in ("box", "point", "span") and type(content) is list:
        try:
            return Answer(type=type_, value=ANSWERS[type_](content, "pixels"))
        except ValueError:
            return None
    return None
