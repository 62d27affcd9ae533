"""Reading rendered text: signs with invented words, numbers and codes, so that no language model can guess them.

read        "What is written here?"                                     one line (several in hard splits)
word        "Which word is written in red?", "… on the second line?"    one of several words
number      "Which number stands behind “mobat”?"                       a small table
option      "Which of the options is written here?"                     options that differ in one letter
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mmrl.data.builders.worlds.shapes import COLOURS
from mmrl.data.builders.worlds.words import invented_words
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source
from mmrl.errors import DataError
from mmrl.types import Answer

if TYPE_CHECKING:
    from PIL.Image import Image

_FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono")
_FACES_HARD = (*_FACES, "DejaVuSans-Oblique", "DejaVuSerif-Italic", "DejaVuSerif-Bold", "DejaVuSansMono-Oblique")
_INKS = ("black", "blue", "red", "green", "purple")
_PAPERS = ((255, 255, 255), (250, 246, 232), (236, 243, 250), (240, 240, 240))
_ORDINALS = ("first", "second", "third", "fourth", "fifth")

Line = list[tuple[str, str]]  # (text, ink) of the words of one line


class ReadingOptions(WorldOptions):
    """Options of the builder `reading`."""

    size: int = Field(140, ge=84, le=2048, description="width of the pictures, pixels; their height is 3/5 of it")


def build_reading(options: ReadingOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One sign per question."""
    _font("DejaVuSans", 12)
    return generated(
        "reading",
        lambda slot: _make(slot, options),
        seed=seed,
        splits=splits,
        hard_splits=options.hard_splits,
        packages=("pillow", "matplotlib"),
    )


def _make(slot: Slot, options: ReadingOptions) -> Draft:
    kind, slot = slot.deal_kind("kind", list(_KINDS))
    question, answer, choices, lines = _KINDS[kind](slot)
    picture = _render(lines, slot, options.size)
    return Draft(
        key="",
        task={"read": "ocr", "word": "ocr", "number": "number", "option": "choice"}[kind],
        question=question,
        answer=answer,
        choices=choices,
        media=(png(picture),),
        metadata={"kind": kind, "text": "\n".join(" ".join(text for text, _ in line) for line in lines)},
    )


Made = tuple[str, Answer, tuple[str, ...], list[Line]]


def _read(slot: Slot) -> Made:
    dice = slot.random
    ink = dice.choice(_INKS)
    count = dice.randint(3, 5) if slot.hard else dice.randint(1, 2)
    texts = [_token(dice) for _ in range(count)]
    per_line = 2 if slot.hard else 1
    lines = [[(text, ink) for text in texts[i : i + per_line]] for i in range(0, count, per_line)]
    return "What is written here?", Answer(type="text", value=" ".join(texts)), (), lines


def _word(slot: Slot) -> Made:
    dice = slot.random
    count = 5 if slot.hard else 3
    words = invented_words(dice, count)
    place = slot.deal("line", range(count))
    if dice.random() < 0.5:
        inks = [dice.choice([ink for ink in _INKS if ink != "red"]) for _ in range(count)]
        inks[place] = "red"
        question = "Which word is written in red?"
    else:
        inks = [dice.choice(_INKS)] * count
        question = f"Which word is on the {_ORDINALS[place]} line?"
    return question, Answer(type="text", value=words[place]), (), [[pair] for pair in zip(words, inks, strict=True)]


def _number(slot: Slot) -> Made:
    dice = slot.random
    count = 5 if slot.hard else 3
    words = invented_words(dice, count)
    figures = dice.sample(range(1000, 10000) if slot.hard else range(10, 1000), count)
    place = dice.randrange(count)
    ink = dice.choice(_INKS)
    lines = [[(word, ink), (str(figure), ink)] for word, figure in zip(words, figures, strict=True)]
    question = f"Which number stands behind “{words[place]}”?"
    return question, Answer(type="number", value=figures[place]), (), lines


def _option(slot: Slot) -> Made:
    dice = slot.random
    words = invented_words(dice, 4)
    place = slot.deal("line", range(4))
    right = words[place]
    if dice.random() < 0.5:
        question = f"Which option is the word on the {_ORDINALS[place]} line?"
        wrong = [word for word in words if word != right]
    else:
        question = "Which of the options is written here?"
        wrong = _near(right, words, dice)
    choices, answer = slot.options(right, wrong)
    ink = dice.choice(_INKS)
    return question, answer, choices, [[(word, ink)] for word in words]


def _near(word: str, shown: Sequence[str], dice: random.Random) -> list[str]:
    """Three words that differ from `word` in one letter and are not shown."""
    found: dict[str, None] = {}
    while len(found) < 3:
        place = dice.randrange(len(word))
        letter = dice.choice("aeiou" if word[place] in "aeiou" else "bdfgklmnprstvz")
        other = word[:place] + letter + word[place + 1 :]
        if other not in shown:
            found[other] = None
    return list(found)


_KINDS = {"read": _read, "word": _word, "number": _number, "option": _option}


def _token(dice: random.Random) -> str:
    draw = dice.random()
    if draw < 0.7:
        return invented_words(dice, 1)[0]
    if draw < 0.85:
        return str(dice.randrange(10, 10000))
    return "".join(dice.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(2)) + str(dice.randrange(10, 100))


def _render(lines: Sequence[Line], slot: Slot, width: int) -> Image:
    """The sign; DoesNotFit where the text is too long."""
    from PIL import Image, ImageDraw

    dice = slot.random
    height = width * 3 // 5
    paper = dice.choice(_PAPERS)
    finer = 2
    picture = Image.new("RGB", (width * finer, height * finer), paper)
    pen = ImageDraw.Draw(picture)
    face = dice.choice(_FACES_HARD if slot.hard else _FACES)
    step = height * finer / (len(lines) + 0.6)
    for points in range(round(min(step * 0.72, 0.3 * height * finer)), round(0.07 * height * finer), -1):
        font = _font(face, points)
        widths = [pen.textlength(" ".join(text for text, _ in line), font=font) for line in lines]
        if max(widths) < 0.92 * width * finer:
            break
    else:
        raise DoesNotFit
    for index, (line, length) in enumerate(zip(lines, widths, strict=True)):
        x = dice.uniform(0.03 * width * finer, width * finer * 0.97 - length)
        y = step * (0.3 + index) + (step - points) * 0.4
        for text, ink in line:
            pen.text((x, y), text, font=font, fill=COLOURS[ink])
            x += pen.textlength(text + " ", font=font)
    if slot.hard:
        angle = dice.uniform(-6, 6)
        picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
        pen = ImageDraw.Draw(picture)
        for _ in range(dice.randint(3, 6)):
            grey = dice.randint(170, 215)
            ends = [dice.uniform(0, side * finer) for side in (width, height, width, height)]
            pen.line(ends, fill=(grey,) * 3, width=finer)
    return picture.resize((width, height), Image.Resampling.BOX)


@cache
def _font(face: str, points: int) -> Any:
    from PIL import ImageFont

    try:
        import matplotlib
    except ImportError:
        raise DataError(
            "the builder 'reading' writes with the fonts that matplotlib ships, and matplotlib is not installed. "
            "Install it: pip install 'mmrl[data]'"
        ) from None
    path = Path(matplotlib.__file__).parent / "mpl-data" / "fonts" / "ttf" / f"{face}.ttf"
    return ImageFont.truetype(str(path), max(6, points))
