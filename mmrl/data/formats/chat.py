"""Conversations with pictures: LLaMA-Factory / ShareGPT JSON, LLaVA, ms-swift, and TRL's rows.

    {"messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat"}],
     "images": ["a/1.jpg"], "videos": []}
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}], "image": "a/1.jpg"}
    {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
     "images": [picture], "solution": "A cat"}                                                             (TRL)

One question and one answer; a system message is dropped, longer conversations cannot be checked. What kind of answer it
is stands in the recipe's `constants`: answer_type (an answer type, or auto: a number where it is one, else text), task,
and options where all rows share them.
"""

from __future__ import annotations

from typing import Any

from mmrl.data.formats.row import ForeignRow, ManifestRow, Unfit, auto_answer, media_list

_USER = ("user", "human")
_ASSISTANT = ("assistant", "gpt")


def sharegpt_row(row: ForeignRow) -> ManifestRow:
    """One conversation."""
    turns = row.get("messages") if row.get("messages") is not None else row.get("conversations")
    said = _turns(turns)
    if [who for who, _ in said] != ["user", "assistant"]:
        raise Unfit("not one question and one answer", f"the conversation has {len(said)} turns")
    return _made(row, said[0][1], said[1][1])


def trl_row(row: ForeignRow) -> ManifestRow:
    """One prompt with its gold in solution, answer or ground_truth."""
    prompt = row.get("prompt")
    said = [("user", prompt)] if isinstance(prompt, str) else _turns(prompt)
    if [who for who, _ in said] != ["user"]:
        raise Unfit("not one question", f"the prompt has {len(said)} turns; only a single user turn can be asked")
    gold = next((row[key] for key in ("solution", "answer", "ground_truth") if row.get(key) is not None), None)
    return _made(row, said[0][1], gold)


def _turns(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list | tuple) or not all(isinstance(turn, dict) for turn in value):
        raise Unfit("no conversation", "messages, conversations or prompt is missing or no list of turns")
    said = []
    for turn in value:
        who = str(turn.get("role", turn.get("from")))
        if who == "system":
            continue
        content = turn.get("content", turn.get("value"))
        said.append(("user" if who in _USER else "assistant" if who in _ASSISTANT else who, _text(content)))
    return said


def _text(content: Any) -> str:
    """Plain text with a mark where media go."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise Unfit("no text", "a turn holds neither text nor a list of pieces")
    pieces = []
    for piece in content:
        kind = piece.get("type") if isinstance(piece, dict) else None
        if kind in ("image", "video"):
            pieces.append(f"<{kind}>")
        elif kind == "text":
            pieces.append(str(piece.get("text") or ""))
        else:
            raise Unfit("unknown piece", f"a turn holds a piece of type {kind!r}; known are text, image, video")
    return "".join(pieces)


def _made(row: ForeignRow, question: str, gold: Any) -> ManifestRow:
    if row.get("audios"):
        raise Unfit("audio", "the row has audio, which is not supported")
    images = media_list(row.get("images") if row.get("images") is not None else row.get("image"), "image")
    videos = media_list(row.get("videos") if row.get("videos") is not None else row.get("video"), "video")
    marks = (question.count("<image>"), question.count("<video>"))
    if marks != (0, 0) and marks != (len(images), len(videos)):
        raise Unfit(
            "marks and media differ",
            f"{marks[0]} × <image>, {marks[1]} × <video>; {len(images)} pictures, {len(videos)} clips",
        )
    asked = question.replace("<image>", "").replace("<video>", "").strip()
    if not asked:
        raise Unfit("no question", "the question is empty")
    options = row.get("options")
    choices = [str(option) for option in options] if isinstance(options, list | tuple) else []
    answer = auto_answer(gold, str(row.get("answer_type") or "auto"), choices)
    in_order = _in_order(question, images, videos)
    made: ManifestRow = {
        "id": str(row.get("id") or "chat"),
        "task": str(row.get("task") or answer["type"]),
        "question": question.strip() if marks != (0, 0) else asked,
        "media": in_order,
        "answer": answer,
    }
    return {**made, "choices": choices} if choices else made


def _in_order(question: str, images: list[Any], videos: list[Any]) -> list[Any]:
    """Media in the order of their marks; without marks pictures before clips."""
    left = {"image": list(images), "video": list(videos)}
    ordered = []
    for piece in question.split("<")[1:]:
        kind = piece.partition(">")[0]
        if left.get(kind):
            ordered.append(left[kind].pop(0))
    return [*ordered, *left["image"], *left["video"]]
