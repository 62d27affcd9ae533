"""Looking up every file that a manifest names, and decoding every picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from mmrl.data.images import BrokenMedia, load_image
from mmrl.data.problem import Problem
from mmrl.errors import DataError
from mmrl.progress import Progress
from mmrl.types import Answer, Media, Sample

_EDGE = 1.0  # pixels by which a box may pass the picture's edge: annotations are rounded


def check_media_files(
    samples: Sequence[tuple[str, Sample]], *, progress: Progress
) -> tuple[list[Problem], list[tuple[str, Problem]]]:
    """(defects of the data set, (reason, problem) of files that are there and broken). Videos are only looked up.

    Each file is opened once, however many samples name it. Also checks pixel coordinates against the picture's size.
    """
    problems: list[Problem] = []
    broken: list[tuple[str, Problem]] = []
    known: dict[str, tuple[int, int] | DataError | BrokenMedia | None] = {}
    with progress.task("media", len(samples)) as task:
        for where, sample in samples:
            for path, is_picture in _files(sample.media):
                if path not in known:
                    known[path] = _examine(path, is_picture)
                verdict = known[path]
                if isinstance(verdict, DataError):
                    problems.append(Problem(where=where, sample_id=sample.id, message=str(verdict)))
                elif isinstance(verdict, BrokenMedia):
                    problem = Problem(where=where, sample_id=sample.id, message=str(verdict))
                    broken.append((verdict.reason, problem))
            problems += [
                Problem(where=where, sample_id=sample.id, message=defect) for defect in _outside(sample, known)
            ]
            task.advance()
    return problems, broken


def _files(media: Iterable[Media]) -> Iterable[tuple[str, bool]]:
    for item in media:
        if item.path is not None:
            yield item.path, item.type == "image"
        for path in item.paths:
            yield path, True


def _examine(path: str, is_picture: bool) -> tuple[int, int] | DataError | BrokenMedia | None:
    """The size of a picture, None for a video that is there, or what is wrong."""
    try:
        if is_picture:
            return load_image(path).size
        if not os.path.exists(path):
            return DataError(f"the video {path} does not exist; put the file there or correct the path")
        if not os.path.isfile(path):
            return BrokenMedia(f"{path} is not a file. Its samples are dropped.", reason="not a file")
        if os.path.getsize(path) == 0:
            return BrokenMedia(f"{path} is empty (0 bytes). Its samples are dropped.", reason="empty file")
        return None
    except (DataError, BrokenMedia) as error:
        return error


def _outside(sample: Sample, known: dict[str, tuple[int, int] | DataError | BrokenMedia | None]) -> list[str]:
    """Pixel coordinates beyond the only picture of a sample."""
    if sample.answer.space != "pixels" or len(sample.media) != 1 or sample.media[0].type != "image":
        return []
    size = known.get(sample.media[0].path or "")
    if not isinstance(size, tuple):
        return []
    width, height = size
    return [
        f"answer.value {list(corner)} lies outside the picture of {width}×{height} pixels. Clip it, or name the space "
        f'it is in: "space": "unit" or "norm1000"'
        for corner in _far_corners(sample.answer)
        if corner[0] > width + _EDGE or corner[1] > height + _EDGE
    ]


def _far_corners(answer: Answer) -> list[tuple[float, float]]:
    if answer.type == "box":
        return [tuple(answer.value[2:])]
    if answer.type == "boxes":
        return [tuple(box[2:]) for box in answer.value]
    return [tuple(answer.value)] if answer.type == "point" else []
