"""Whether an answer fits what its sample shows: coordinates inside the picture, times inside the clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmrl.curation.media_facts import MediaFacts
from mmrl.types import Answer, Media, Sample

EDGE_PIXELS = 1.0  # by which a box may pass the picture's edge: annotations are rounded
EDGE_SECONDS = 1.0  # by which a span may pass the clip's end: some annotations do by a little

Defect = tuple[str, str]  # (slug, sentence)


def answer_defects(sample: Sample, facts: Mapping[str, MediaFacts]) -> list[Defect]:
    """What is wrong; empty where a medium is broken, which is another matter. facts: path → what is known of it."""
    paths = [path for item in sample.media for path in _paths(item)]
    if any(facts[path].reason for path in paths):
        return []
    defects = [defect for item in sample.media for defect in _clip(item, facts)]
    answer = sample.answer
    if answer.type in ("box", "boxes", "point") and answer.space == "pixels" and paths:
        defects += _coordinates(answer, [(facts[path].width, facts[path].height) for path in paths])
    clips = [facts[path] for item in sample.media if item.type == "video" for path in _paths(item)]
    frames = [item for item in sample.media if item.type == "frames" and item.fps]
    if answer.type in ("span", "spans") and len(clips) + len(frames) == 1:
        length = clips[0].seconds if clips else len(frames[0].paths) / (frames[0].fps or 1.0)
        defects += _times(answer, length)
    return defects


def _paths(item: Media) -> Sequence[str]:
    return item.paths if item.path is None else (item.path,)


def _clip(item: Media, facts: Mapping[str, MediaFacts]) -> list[Defect]:
    if item.type == "frames":
        sizes = {(facts[path].width, facts[path].height) for path in item.paths}
        if len(sizes) > 1:
            told = ", ".join(f"{w}×{h}" for w, h in sorted(sizes)[:3])
            return [("frames of different sizes", f"the listed frames have {told} pixels; scale them to one size")]
        return []
    if item.type != "video" or item.path is None:
        return []
    length = facts[item.path].seconds
    if item.start is not None and item.start >= length:
        return [("start beyond the end", f"{item.path} is {length:.2f} s long and shown from {item.start:g} s; correct "
                                         f"start, or name the clip it was meant for")]  # fmt: skip
    if item.end is not None and item.end > length + EDGE_SECONDS:
        return [("end beyond the end", f"{item.path} is {length:.2f} s long and shown to {item.end:g} s; correct end")]
    return []


def _coordinates(answer: Answer, sizes: Sequence[tuple[int, int]]) -> list[Defect]:
    """Outside every picture of the sample: which of several is meant is not said."""
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    defects = []
    for corner in _corners(answer):
        x, y = corner[-2:]
        if _inside(x, y, sizes):
            continue
        place = f"answer.value {list(corner)} lies outside the picture of {width}×{height} pixels"
        if all(_inside(b, a, sizes) for a, b in zip(corner[::2], corner[1::2], strict=True)):
            order = "[y1, x1, y2, x2]" if len(corner) == 4 else "[y, x]"
            defects.append(("swapped axes", f"{place}, and inside as {order}: x comes first; swap them"))
        else:
            hint = ' or name the space it is in: "space": "unit" or "norm1000"' if max(corner) <= 1000 else ""
            defects.append(("outside the picture", f"{place}. Clip it, drop the row,{hint or ' or correct the size'}"))
    return defects


def _corners(answer: Answer) -> list[tuple[float, ...]]:
    return list(answer.value) if answer.type == "boxes" else [answer.value]


def _inside(x: float, y: float, sizes: Sequence[tuple[int, int]]) -> bool:
    return any(x <= width + EDGE_PIXELS and y <= height + EDGE_PIXELS for width, height in sizes)


def _times(answer: Answer, length: float) -> list[Defect]:
    spans = list(answer.value) if answer.type == "spans" else [answer.value]
    return [
        (
            "span beyond the clip",
            f"answer.value [{start:g}, {end:g}] passes the end of a clip of {length:.2f} s. Times are seconds of the "
            f"file: correct them, or drop the row",
        )
        for start, end in spans
        if end > length + EDGE_SECONDS
    ]
