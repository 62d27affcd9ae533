"""One HTML page that shows samples as their author should look at them: picture, question, options, answer.

The page needs no other file: pictures are embedded, scaled down. Boxes and points of the answer are drawn, so that a
wrong coordinate space is seen at a glance.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mmrl.data.answers import LETTERS, SPACES
from mmrl.data.images import load_image
from mmrl.errors import DataError, MediaError
from mmrl.types import Answer, Media, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST = 320  # pixels of a shown picture's longer side
_FRAMES = 8  # of a list of frames, so many are shown

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1c1c1c; }
article { display: flex; gap: 1.2rem; padding: 1rem 0; border-top: 1px solid #ddd; flex-wrap: wrap; }
figure { margin: 0; min-width: 8rem; } img { max-width: 20rem; margin: 0 .3rem .3rem 0; image-rendering: auto; }
h2 { font-size: 1rem; margin: 0; font-weight: 600; } .text { flex: 1 1 20rem; } pre { white-space: pre-wrap; }
.small { color: #666; font-size: .85rem; } .right { font-weight: 700; color: #0a6b2d; } .broken { color: #a40000; }
ol { list-style: upper-alpha; margin: .4rem 0; }
"""


def preview_html(samples: Sequence[Sample], *, title: str, total: int) -> str:
    """The page for `samples`, the first of `total`."""
    parts = [_article(sample) for sample in samples]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(title)}</h1>"
        f"<p>The first {len(samples)} of {total} samples.</p>\n{''.join(parts)}</body></html>\n"
    )


def _article(sample: Sample) -> str:
    figures = "".join(_figure(item, sample) for item in sample.media)
    if sample.choices and sample.answer.type in ("choice", "choices"):
        items = [
            f'<li class="right">{escape(text)} ✓</li>' if letter in sample.answer.value else f"<li>{escape(text)}</li>"
            for letter, text in zip(LETTERS, sample.choices, strict=False)
        ]
        answer = f"<ol>{''.join(items)}</ol>"
    else:
        answer = f'<p class="right">{escape(answer_text(sample.answer))}</p>'
    notes = f'<p class="small">{escape(json.dumps(sample.metadata, ensure_ascii=False))}</p>' if sample.metadata else ""
    return (
        f'<article><figure>{figures}</figure><div class="text"><h2>{escape(sample.id)} '
        f'<span class="small">{escape(sample.task)} · {sample.answer.type}</span></h2>'
        f"<pre>{escape(sample.question)}</pre>{answer}{notes}</div></article>\n"
    )


def answer_text(answer: Answer) -> str:
    """The answer in one line."""
    value = answer.value
    if isinstance(value, tuple):
        value = json.dumps(value, ensure_ascii=False)
    unit = f" {answer.unit}" if answer.unit else ""
    return f"{value}{unit}" + (f" ({answer.space})" if answer.space != "pixels" else "")


def _figure(item: Media, sample: Sample) -> str:
    if item.type == "video":
        return f'<p class="small">video {escape(item.path or "")}</p>'
    if item.type == "image":
        return _picture(item.path or "", sample.answer if len(sample.media) == 1 else None)
    more = f'<p class="small">{len(item.paths)} frames</p>'
    return "".join(_picture(path, None) for path in item.paths[:_FRAMES]) + more


def _picture(path: str, answer: Answer | None) -> str:
    try:
        picture = load_image(path)
    except (MediaError, DataError) as error:
        return f'<p class="broken">{escape(str(error))}</p>'
    factor = min(_LONGEST / max(picture.size), 4.0)
    shown = picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))
    if answer is not None:
        _draw(shown, picture.size, answer)
    file = io.BytesIO()
    shown.save(file, format="PNG")
    return f'<img alt="{escape(path)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


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
