"""One HTML page that shows samples as their author should look at them: media, question, options, answer.

The page needs no other file: pictures and sampled frames of clips are embedded, scaled down. Boxes and points of the
answer are drawn, spans are marked on the clip's time line, so that a wrong coordinate space or clock is seen at a
glance. Media are opened in a process that can be killed.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmrl.atomic import write_atomically
from mmrl.curation.expression import parse_expression
from mmrl.curation.filter import TRUE, judge
from mmrl.curation.scan import Nothing, mixed, scan
from mmrl.curation.workers import Failed, run_killable
from mmrl.data.answers import SPACES
from mmrl.data.images import load_image
from mmrl.data.video_info import ClipTrouble
from mmrl.errors import ConfigError, DataError, MediaError
from mmrl.progress import Progress, SilentProgress
from mmrl.types import Answer, Media, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST = 320  # pixels of a shown picture's longer side
_FRAMES = 8  # of a list of frames or a clip, so many are shown, evenly spaced
_DRAWN = ("box", "boxes", "point", "span", "spans")  # answer types with a place on the media
_SECONDS = 60.0  # a sample's media may take so long

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c1c1c; }
article { display: flex; gap: 1.2rem; padding: 1rem 0; border-top: 1px solid #ddd; flex-wrap: wrap; }
figure { margin: 0; min-width: 8rem; max-width: 42rem; } img { max-width: 20rem; margin: 0 .3rem .3rem 0; }
.clip img { max-width: 9.5rem; border: 2px solid #ddd; } .clip img.inside { border-color: #0a6b2d; }
.clip span { display: inline-block; font-size: .75rem; text-align: center; color: #666; }
.time { position: relative; height: .8rem; background: #e5e5e5; margin: .2rem 0; }
.time i { position: absolute; top: 0; bottom: 0; background: #0a6b2d; }
h2 { font-size: 1rem; margin: 0; font-weight: 600; } .text { flex: 1 1 20rem; } pre { white-space: pre-wrap; }
.small { color: #666; font-size: .85rem; } .right { font-weight: 700; color: #0a6b2d; } .broken { color: #a40000; }
ol { list-style: upper-alpha; margin: .4rem 0; }
"""


def chosen_samples(
    path: str | os.PathLike[str],
    *,
    limit: int,
    where: str = "",
    shuffle: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> tuple[list[Sample], int]:
    """(the first `limit` sound samples for which `where` is true, how many there are); `shuffle`: draw by this seed."""
    found = scan([path], Nothing(), workers=workers, progress=progress or SilentProgress())
    rows = np.flatnonzero(found.sound)
    if shuffle is not None:
        rows = rows[np.argsort(mixed(found.ids[rows], shuffle), kind="stable")]
    expression = parse_expression(where) if where else None
    samples: list[Sample] = []
    for row in rows.tolist():
        sample = found.sample(row)
        if expression is None or judge(expression, sample) == TRUE:
            samples.append(sample)
        if len(samples) == limit:
            break
    if not samples:
        raise DataError(f"{path}: no sound row {'fits ' + where if where else 'is there'}, so there is nothing to show")
    return samples, len(rows)


def preview_manifest(
    path: str | os.PathLike[str],
    out: Path,
    *,
    limit: int = 20,
    where: str = "",
    shuffle: int | None = None,
    dry_run: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> int:
    """Writes the page; returns how many samples it shows. An older page is replaced."""
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name the page to write, such as {out / 'preview.html'}")
    bar = progress or SilentProgress()
    samples, total = chosen_samples(path, limit=limit, where=where, shuffle=shuffle, workers=workers, progress=bar)
    if not dry_run:
        page = preview_html(samples, title=str(path), total=total, workers=workers, progress=bar)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page.encode("utf-8"))
    return len(samples)


def preview_html(
    samples: Sequence[Sample], *, title: str, total: int, workers: int = 1, progress: Progress | None = None
) -> str:
    """The page for `samples`, some of `total`."""
    parts = []
    with (progress or SilentProgress()).task("samples", len(samples)) as task:
        for sample, figure in zip(samples, figures_of(samples, workers=workers), strict=True):
            parts.append(_article(sample, figure))
            task.advance()
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>"
        f"<p>{len(samples)} of {total} samples.</p>\n{''.join(parts)}</body></html>\n"
    )


def figures_of(samples: Sequence[Sample], *, workers: int = 1) -> Iterator[str]:
    """HTML of each sample's media; of one that cannot be shown, why."""
    for figure in run_killable(sample_figure, samples, workers=workers, seconds=_SECONDS):
        if isinstance(figure, Failed):
            yield f'<p class="broken">cannot be shown: {escape(figure.detail)}</p>'
        else:
            yield figure


def sample_figure(sample: Sample) -> str:
    """HTML of the media of one sample, answers drawn."""
    figure = "".join(_figure(item, sample) for item in sample.media)
    if len(sample.media) > 1 and sample.answer.type in _DRAWN:
        figure += '<p class="small">The answer is not drawn: it does not say which of these it is in.</p>'
    return figure


def answer_text(answer: Answer) -> str:
    """The answer in one line."""
    value = answer.value
    if isinstance(value, tuple):
        value = json.dumps(value, ensure_ascii=False)
    unit = f" {answer.unit}" if answer.unit else ""
    return f"{value}{unit}" + (f" ({answer.space})" if answer.space != "pixels" else "")


def _article(sample: Sample, figure: str) -> str:
    if sample.choices and sample.answer.type in ("choice", "choices"):
        items = [
            f'<li class="right">{escape(text)} ✓</li>' if letter in sample.answer.value else f"<li>{escape(text)}</li>"
            for letter, text in zip(sample.letters, sample.choices, strict=True)
        ]
        answer = f"<ol>{''.join(items)}</ol>"
        if sample.answer.type == "choices":  # their order may be the answer
            answer += f'<p class="right">{", ".join(sample.answer.value)}</p>'
    else:
        answer = f'<p class="right">{escape(answer_text(sample.answer))}</p>'
    notes = f'<p class="small">{escape(json.dumps(sample.metadata, ensure_ascii=False))}</p>' if sample.metadata else ""
    return (
        f'<article><figure>{figure}</figure><div class="text"><h2>{escape(sample.id)} '
        f'<span class="small">{escape(sample.task)} · {sample.answer.type}</span></h2>'
        f"<pre>{escape(sample.question)}</pre>{answer}{notes}</div></article>\n"
    )


def _figure(item: Media, sample: Sample) -> str:
    drawn = sample.answer if len(sample.media) == 1 else None
    try:
        if item.type == "video":
            return _clip(item, drawn)
        if item.type == "image":
            return _embedded(_scaled(load_image(item.path or ""), drawn), item.path or "")
        places = sorted({(2 * i + 1) * len(item.paths) // (2 * _FRAMES) for i in range(_FRAMES)})
        rate = item.fps or 1.0
        strip = [(place / rate, _scaled(load_image(item.paths[place]), drawn), item.paths[place]) for place in places]
        return _strip(strip, drawn, len(item.paths) / rate, f"{len(item.paths)} frames at {rate:g} per second")
    except (MediaError, DataError) as error:
        return f'<p class="broken">{escape(str(error))}</p>'
    except ClipTrouble as error:
        return f'<p class="broken">{escape(f"{item.path} {error}")}</p>'


def _clip(item: Media, answer: Answer | None) -> str:
    from PIL import Image

    from mmrl.data.video_inspect import inspect_clip
    from mmrl.data.video_readers import pyav_frames

    path = item.path or ""
    if not os.path.isfile(path):
        raise DataError(f"the video {path} does not exist")
    info = inspect_clip(path)
    length = info.seconds[-1] + 1 / info.frame_rate
    first = sum(second < (item.start or 0.0) for second in info.seconds)
    last = max(first + 1, sum(second <= (item.end or length) for second in info.seconds))
    count = min(last, info.frames) - min(first, info.frames - 1)
    places = sorted({min(first + (2 * i + 1) * count // (2 * _FRAMES), info.frames - 1) for i in range(_FRAMES)})
    frames = [frame for piece in pyav_frames(path, info, places) for frame in piece]
    strip = [
        (info.seconds[place], _scaled(Image.fromarray(frame), answer), path)
        for place, frame in zip(places, frames, strict=True)
    ]
    part = f", shown from {item.start or 0:g} to {item.end or length:g} s" if item.start or item.end else ""
    told = f"{Path(path).name}: {length:.2f} s, {info.width}×{info.height}, {info.frame_rate:g} per second{part}"
    return _strip(strip, answer, length, told)


def _strip(frames: Sequence[tuple[float, Image, str]], answer: Answer | None, length: float, told: str) -> str:
    spans: list[Any] = []
    if answer is not None and answer.type in ("span", "spans"):
        spans = [answer.value] if answer.type == "span" else list(answer.value)
    shown = []
    for second, picture, name in frames:
        inside = any(start <= second <= end for start, end in spans)
        shown.append(f"<span>{_embedded(picture, name, inside=inside)}<br>{second:.2f} s</span>")
    marks = "".join(
        f'<i style="left:{_share(start, length)};width:{_share(min(end, length) - start, length)}"></i>'
        for start, end in spans
    )
    line = f'<div class="time">{marks}</div>' if spans else ""
    return f'<div class="clip">{"".join(shown)}{line}<p class="small">{escape(told)}</p></div>'


def _share(seconds: float, length: float) -> str:
    return f"{100 * min(max(seconds / length, 0.0), 1.0):.2f}%"


def _scaled(picture: Image, answer: Answer | None) -> Image:
    factor = min(_LONGEST / max(picture.size), 4.0)
    shown = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))
    if answer is not None:
        _draw(shown, picture.size, answer)
    return shown


def _embedded(picture: Image, name: str, *, inside: bool = False) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    mark = ' class="inside"' if inside else ""
    return f'<img{mark} alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _draw(shown: Image, original: tuple[int, int], answer: Answer) -> None:
    from PIL import ImageDraw

    whole = SPACES[answer.space]
    x_scale, y_scale = (
        shown_side / (side if whole is None else whole) for shown_side, side in zip(shown.size, original, strict=True)
    )
    pen = ImageDraw.Draw(shown)
    boxes: list[Any] = [answer.value] if answer.type == "box" else list(answer.value) if answer.type == "boxes" else []
    for x1, y1, x2, y2 in boxes:
        pen.rectangle((x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale), outline="red", width=2)
    if answer.type == "point":
        x, y = answer.value[0] * x_scale, answer.value[1] * y_scale
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline="red", width=2)
