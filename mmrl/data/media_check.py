"""Looks up every file a manifest names; decodes every picture, and of every clip the frames a model would see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmrl.data.images import BrokenMedia, load_image
from mmrl.data.problem import Problem
from mmrl.data.video import ClipReader
from mmrl.data.video_plan import ClipRules, plan_clip
from mmrl.errors import DataError
from mmrl.progress import Progress
from mmrl.types import Answer, Media, Sample

_EDGE = 1.0  # pixels by which a box may pass the picture's edge: annotations are rounded


_Verdict = tuple[int, int] | DataError | BrokenMedia  # size in pixels, or what is wrong


def check_media_files(
    samples: Sequence[tuple[str, Sample]], *, progress: Progress, clips: ClipReader | None = None
) -> tuple[list[Problem], list[tuple[str, Problem]]]:
    """(defects of the data set, (reason, problem) of files that are there and broken).

    Each picture, and each part of a clip, is decoded once, however many samples name it; clips in the same killable
    process as in training, frames chosen by the default rules. Also checks pixel coordinates against the size.
    """
    reader = clips or ClipReader()
    problems: list[Problem] = []
    broken: list[tuple[str, Problem]] = []
    known: dict[Media, _Verdict] = {}
    try:
        with progress.task("media", len(samples)) as task:
            for where, sample in samples:
                for item in _files(sample.media):
                    if item not in known:
                        known[item] = _examine(item, reader)
                    verdict = known[item]
                    if isinstance(verdict, DataError):
                        problems.append(Problem(where=where, sample_id=sample.id, message=str(verdict)))
                    elif isinstance(verdict, BrokenMedia):
                        problem = Problem(where=where, sample_id=sample.id, message=str(verdict))
                        broken.append((verdict.reason, problem))
                problems += [
                    Problem(where=where, sample_id=sample.id, message=defect) for defect in _outside(sample, known)
                ]
                task.advance()
    finally:
        reader.close()
    return problems, broken


def _files(media: Iterable[Media]) -> Iterable[Media]:
    """Pictures and clips; listed frames one by one."""
    for item in media:
        if item.path is not None:
            yield item
        for path in item.paths:
            yield Media(type="image", path=path)


def _examine(item: Media, reader: ClipReader) -> _Verdict:
    assert item.path is not None
    try:
        if item.type == "image":
            return load_image(item.path).size
        clip = reader.read(item.path, lambda info: plan_clip(info, item, ClipRules()).frames, lambda frames: None)
        return clip.info.width, clip.info.height
    except (DataError, BrokenMedia) as error:
        return error


def _outside(sample: Sample, known: dict[Media, _Verdict]) -> list[str]:
    """Pixel coordinates beyond the only picture or clip of a sample."""
    if sample.answer.space != "pixels" or len(sample.media) != 1 or sample.media[0].type == "frames":
        return []
    size = known.get(sample.media[0])
    if not isinstance(size, tuple):
        return []
    width, height = size
    kind = "picture" if sample.media[0].type == "image" else "clip"
    return [
        f"answer.value {list(corner)} lies outside the {kind} of {width}×{height} pixels. Clip it, or name the space "
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
