"""One manifest row: checked and turned into a `Sample`, and back into a row.

{"id": "digits-train-0007", "task": "choice", "question": "Which digit is written here?",
 "media": [{"type": "image", "path": "images/0007.png"}],
 "choices": ["0", "1", …], "answer": {"type": "choice", "value": "H"}, "metadata": {"split": "train"}}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mmrl.data.address import is_web_address
from mmrl.data.answers import answer_row, examine_answer
from mmrl.data.fields import Defects, as_count, as_list, as_number, as_object, as_text, check_keys, one_of
from mmrl.errors import DataError
from mmrl.types import LETTERS, Answer, Media, MediaType, Sample

KEYS = ("id", "task", "question", "media", "choices", "answer", "metadata")
MEDIA_KEYS: Mapping[str, tuple[str, ...]] = {
    "image": ("path",),
    "video": ("path", "start", "end", "fps", "max_frames"),
    "frames": ("paths", "fps"),
}

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:(//|[^\\/])")  # http://…, file://…, data:image/…


def parse_sample(row: Any, *, where: str, root: Path) -> Sample:
    """The sample of a row whose media paths are relative to `root`; a DataError at `where` names all its defects."""
    sample, defects = examine_row(row, root=root)
    if sample is None:
        raise DataError(f"{where}: {name_of(row)}{'; '.join(defects)}")
    return sample


def examine_row(row: Any, *, root: Path, addresses: bool = False) -> tuple[Sample | None, list[str]]:
    """The sample, or None and everything that is wrong with the row. `addresses`: media may be http and https
    addresses, which stay as they are.
    """
    defects = Defects()
    if isinstance(row, list):
        return None, ["the line is a list. A manifest has one object per line; unpack it: jq -c '.[]' old > new.jsonl"]
    fields = defects.catch(as_object, row, "the line")
    if fields is None:
        return None, defects.found
    check_keys(fields, KEYS, "", defects)
    texts = {key: _required(fields, key, defects) for key in ("id", "task", "question")}
    media = _media_list(fields.get("media"), root, defects, addresses)
    choices = defects.catch(_choices, fields.get("choices"))
    metadata = defects.catch(as_object, {} if fields.get("metadata") is None else fields["metadata"], "metadata")
    answer = _answer(fields, choices or (), defects)
    if media is not None and texts["question"]:
        defects.catch(_check_marks, texts["question"], media)
    if defects.found or media is None or choices is None or metadata is None or answer is None:
        return None, defects.found
    return (
        Sample(
            id=cast(str, texts["id"]),
            task=cast(str, texts["task"]),
            question=cast(str, texts["question"]),
            answer=answer,
            media=media,
            choices=choices,
            metadata=dict(metadata),
        ),
        [],
    )


def sample_row(sample: Sample, *, root: Path) -> dict[str, Any]:
    """The row that `parse_sample` reads back; media below `root` become relative to it."""
    row: dict[str, Any] = {"id": sample.id, "task": sample.task, "question": sample.question}
    if sample.media:
        row["media"] = [_media_row(item, root, sample.id) for item in sample.media]
    if sample.choices:
        row["choices"] = list(sample.choices)
    row["answer"] = answer_row(sample.answer)
    if sample.metadata:
        row["metadata"] = dict(sample.metadata)
    return row


def name_of(row: Any) -> str:
    """How messages name the sample of a row, as far as it has a name."""
    id_ = row.get("id") if isinstance(row, Mapping) else None
    return f"sample {id_!r}: " if isinstance(id_, str) and id_ else ""


def _required(fields: Mapping[str, Any], key: str, defects: Defects) -> str | None:
    if fields.get(key) is None:
        defects.found.append(f"has no {key!r}; every sample needs one")
        return None
    return defects.catch(as_text, fields[key], key)


def _answer(fields: Mapping[str, Any], choices: tuple[str, ...], defects: Defects) -> Answer | None:
    if fields.get("answer") is None:
        defects.found.append("has no 'answer'. Every verifiable sample needs one; add it or drop the row")
        return None
    before = len(defects.found)
    answer = examine_answer(fields["answer"], defects)
    if answer is None:
        value = fields["answer"].get("value") if isinstance(fields["answer"], Mapping) else None
        if len(defects.found) > before and isinstance(value, str) and value in choices:
            defects.found[-1] += f" The text is that of option {LETTERS[choices.index(value)]}."
        return None
    if choices and answer.type in ("choice", "choices"):
        last = LETTERS[len(choices) - 1]
        beyond = [letter for letter in answer.value if letter > last]
        if beyond:
            defects.found.append(
                f"answer.value names option {', '.join(beyond)}, but there are {len(choices)} choices (A–{last}); "
                f"correct the letter or add the missing option"
            )
    return answer


def _choices(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = tuple(as_text(item, f"choices[{index}]") for index, item in enumerate(as_list(value, "choices")))
    if len(texts) == 1:
        raise DataError("choices has one option, which leaves nothing to choose; give at least two, or none")
    if len(texts) > len(LETTERS):
        raise DataError(f"choices has {len(texts)} options; letters go to Z, so give at most {len(LETTERS)}")
    seen: dict[str, int] = {}
    for index, text in enumerate(texts):
        first = seen.setdefault(" ".join(text.split()), index)
        if first != index:
            raise DataError(
                f"options {LETTERS[first]} and {LETTERS[index]} are both {text!r}, so two letters would be right; "
                f"remove one of them"
            )
    return texts


def _media_list(value: Any, root: Path, defects: Defects, addresses: bool) -> tuple[Media, ...] | None:
    items = defects.catch(as_list, [] if value is None else value, "media")
    if items is None:
        return None
    made = [_media(item, f"media[{index}]", root, defects, addresses) for index, item in enumerate(items)]
    kept = tuple(item for item in made if item is not None)
    return kept if len(kept) == len(made) else None


def _media(value: Any, name: str, root: Path, defects: Defects, addresses: bool) -> Media | None:
    before = len(defects.found)
    fields = defects.catch(as_object, value, name)
    type_ = defects.catch(one_of, fields.get("type"), f"{name}.type", "media type", MEDIA_KEYS) if fields else None
    if fields is None or type_ is None:
        if not fields and len(defects.found) == before:
            defects.found.append(f'{name} is empty; write {{"type": "image", "path": "…"}} or remove it')
        return None
    check_keys(fields, ("type", *MEDIA_KEYS[type_]), f"{name} of type {type_!r}: ", defects)
    if type_ == "frames":
        listed = defects.catch(as_list, fields.get("paths"), f"{name}.paths") or []
        if not listed and len(defects.found) == before:
            defects.found.append(f"{name}.paths is an empty list; name one file per frame, in order of time")
        paths = tuple(
            defects.catch(_path, item, f"{name}.paths[{index}]", root, addresses) or ""
            for index, item in enumerate(listed)
        )
        path = None
    else:
        path, paths = defects.catch(_path, fields.get("path"), f"{name}.path", root, addresses), ()
    numbers = {
        "start": _optional(fields, "start", name, defects, as_number, at_least=0),
        "end": _optional(fields, "end", name, defects, as_number, above=0),
        "fps": _optional(fields, "fps", name, defects, as_number, above=0),
    }
    max_frames = _optional(fields, "max_frames", name, defects, as_count)
    if type_ == "frames" and fields.get("fps") is None:
        defects.found.append(f"{name} of type 'frames' has no fps; say at which rate the frames were taken")
    start, end = numbers["start"], numbers["end"]
    if start is not None and end is not None and end <= start:
        defects.found.append(f"{name} ends at {end:g} s, not after its start at {start:g} s; correct start or end")
    if len(defects.found) > before:
        return None
    return Media(type=cast(MediaType, type_), path=path, paths=paths, max_frames=max_frames, **numbers)


def _optional(fields: Mapping[str, Any], key: str, name: str, defects: Defects, read: Any, **bounds: float) -> Any:
    return None if fields.get(key) is None else defects.catch(read, fields[key], f"{name}.{key}", **bounds)


def _path(value: Any, name: str, root: Path, addresses: bool) -> str:
    text = as_text(value, name)
    if addresses and is_web_address(text):
        return text
    if _ADDRESS.match(text):
        raise DataError(
            f"{name} {text[:60]!r} is an address; mmrl reads files: fetch it and give the file's path (for pictures "
            f"and clips on the web: `mmrl data fetch`, or data.urls in a run's config)"
        )
    if "\0" in text:
        raise DataError(f"{name} holds a null character, which no file name can; correct the path")
    if "\\" in text and os.sep == "/":
        raise DataError(f"{name} {text!r} is written with backslashes; write {text.replace(chr(92), '/')!r}")
    return os.path.normpath(os.path.join(os.path.abspath(root), text))


def _check_marks(question: str, media: tuple[Media, ...]) -> None:
    """Either no marks (media come first), or exactly one for every item."""
    images, videos = question.count("<image>"), question.count("<video>")
    held_images = sum(item.type == "image" for item in media)
    held_videos = len(media) - held_images
    marks = re.findall("<image>|<video>", question)
    kinds = ["<image>" if item.type == "image" else "<video>" for item in media]
    if (images or videos) and (images, videos) != (held_images, held_videos):
        raise DataError(
            f"the question marks {images} × <image> and {videos} × <video>, but media has {held_images} image(s) and "
            f"{held_videos} video(s); give each item one mark, or none (then media come first)"
        )
    if marks and marks != kinds:
        raise DataError(
            f"the question's marks stand in the order {' '.join(marks)}, media in the order {' '.join(kinds)}, and "
            f"each mark means the next item; list media in the order of the marks"
        )


def _media_row(item: Media, root: Path, sample_id: str) -> dict[str, Any]:
    row: dict[str, Any] = {"type": item.type}
    if item.path is not None:
        row["path"] = _stored(item.path, root, sample_id)
    if item.paths:
        row["paths"] = [_stored(path, root, sample_id) for path in item.paths]
    for key in ("start", "end", "fps", "max_frames"):
        if getattr(item, key) is not None:
            row[key] = getattr(item, key)
    return row


def _stored(path: str, root: Path, sample_id: str) -> str:
    if not os.path.isabs(path):
        raise DataError(
            f"sample {sample_id!r}: the media path {path!r} is relative, and to what is unknown; make it absolute first"
        )
    whole, folder = os.path.normpath(path), os.path.abspath(root)
    return Path(whole).relative_to(folder).as_posix() if Path(whole).is_relative_to(folder) else whole
