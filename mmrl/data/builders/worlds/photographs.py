"""Questions about real photographs that scikit-image and scikit-learn ship. Nothing is downloaded.

    pasted        "Something of another picture was pasted in. Give its box."                      a box
    cut_out       "The second picture was cut out of the first. Where from?"                       a box in the first
    orientation   "How was this picture turned?"                                                   options
    matching      "Which of the pictures 2 to 5 shows a part of picture 1?"                        options

Splits differ in the photographs themselves, so what is learned of one photograph does not help with another. In hard
splits pieces are smaller, and turned, mirrored, paler or grey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrl.data.builders.worlds.photograph_files import PHOTOGRAPHS, load_photograph, photograph_path
from mmrl.data.builders.worlds.world import DoesNotFit, Slot, WorldOptions, generated, png
from mmrl.data.source import Draft, Source
from mmrl.errors import DataError
from mmrl.types import Answer

if TYPE_CHECKING:
    from PIL.Image import Image


_TURNS = {"not at all": 0, "a quarter to the left": 90, "upside down": 180, "a quarter to the right": 270}


class PhotographOptions(WorldOptions):
    """Options of the builder `photographs`."""

    size: int = Field(140, ge=84, le=1024, description="side of the pictures, pixels")
    photographs: dict[str, tuple[str, ...]] = Field(
        {
            "train": ("astronaut", "coffee", "hubble", "china", "coins"),
            "validation": ("camera", "retina"),
            "test": ("chelsea", "rocket", "flower"),
            "test_hard": ("chelsea", "rocket", "flower"),
        },
        description="split → the photographs that its questions are made of; other splits take those of test",
    )


def build_photographs(options: PhotographOptions, *, seed: int, splits: Mapping[str, int]) -> Source:
    """One or several pieces of photographs per question."""
    used = {split: options.photographs.get(split, options.photographs.get("test", ())) for split in splits}
    for split, names in used.items():
        unknown = [name for name in names if name not in PHOTOGRAPHS]
        if unknown or len(names) < 2 or not any(PHOTOGRAPHS[name].upright for name in names):
            raise DataError(
                f"the builder 'photographs' needs at least two photographs for {split}, one of them with an up and a "
                f"down, of: {', '.join(PHOTOGRAPHS)}; given are {', '.join(names) or 'none'}"
            )
    every = list(dict.fromkeys(name for held in used.values() for name in held))
    return generated(
        "photographs",
        lambda slot: _make(slot, options.size, used[slot.split]),
        seed=seed,
        splits=splits,
        hard_splits=options.hard_splits,
        packages=("pillow", "scikit-image", "scikit-learn"),
        inputs={
            PHOTOGRAPHS[name].place: hashlib.sha256(photograph_path(name).read_bytes()).hexdigest() for name in every
        },
        notices=[f"`{PHOTOGRAPHS[name].place}`: {PHOTOGRAPHS[name].notice}" for name in every],
    )


def _make(slot: Slot, size: int, names: Sequence[str]) -> Draft:
    kind, slot = slot.deal_kind("kind", list(_KINDS))
    return _KINDS[kind](slot, size, names)


def _pasted(slot: Slot, size: int, names: Sequence[str]) -> Draft:
    dice = slot.random
    below, above = dice.sample(list(names), 2)
    picture = _piece(below, slot, size, size, at_least=0.6)
    shares = (0.15, 0.3) if slot.hard else (0.22, 0.4)
    width, height = (round(size * dice.uniform(*shares)) for _ in range(2))
    piece = _changed(_piece(above, slot, width, height, at_least=0.3), slot)
    x, y = dice.randint(0, size - width), dice.randint(0, size - height)
    picture.paste(piece, (x, y))
    return Draft(
        key="",
        task="box",
        question="A piece of another photograph was pasted into this one. Give its box.",
        answer=Answer(type="box", value=(x, y, x + width, y + height)),
        media=(png(picture),),
        metadata={"kind": "pasted", "photographs": [below, above]},
    )


def _cut_out(slot: Slot, size: int, names: Sequence[str]) -> Draft:
    dice = slot.random
    name = dice.choice(list(names))
    picture = _piece(name, slot, size, size, at_least=0.6)
    shares = (0.2, 0.35) if slot.hard else (0.28, 0.45)
    width, height = (round(size * dice.uniform(*shares)) for _ in range(2))
    x, y = dice.randint(0, size - width), dice.randint(0, size - height)
    piece = picture.crop((x, y, x + width, y + height))
    if _flat(piece):
        raise DoesNotFit
    larger = size / max(width, height)
    shown = _scaled(_changed(piece, slot), round(width * larger), round(height * larger))
    return Draft(
        key="",
        task="box",
        question="The second picture was cut out of the first and enlarged. Give its box in the first picture.",
        answer=Answer(type="box", value=(x, y, x + width, y + height)),
        media=(png(picture), png(shown)),
        metadata={"kind": "cut_out", "photographs": [name]},
    )


def _orientation(slot: Slot, size: int, names: Sequence[str]) -> Draft:
    dice = slot.random
    name = dice.choice([name for name in names if PHOTOGRAPHS[name].upright])
    right = slot.deal("turn", list(_TURNS))
    piece = _piece(name, slot, size, size, at_least=0.55 if slot.hard else 0.75)
    if dice.random() < 0.5:
        from PIL import ImageOps

        piece = ImageOps.mirror(piece)  # left and right alone must not tell which photograph is how
    if slot.hard:
        piece = _paler(piece, dice.uniform(0.45, 0.75))
    choices, answer = slot.options(right, [name for name in _TURNS if name != right])
    return Draft(
        key="",
        task="choice",
        question="How was this photograph turned?",
        choices=choices,
        answer=answer,
        media=(png(piece.rotate(_TURNS[right])),),
        metadata={"kind": "orientation", "photographs": [name]},
    )


def _matching(slot: Slot, size: int, names: Sequence[str]) -> Draft:
    """Picture 1 is of one half of a photograph; two wrong pieces are of its other half, one is of another."""
    dice = slot.random
    name, other = dice.sample(list(names), 2)
    sides: list[Literal["left", "right"]] = ["left", "right"]
    dice.shuffle(sides)
    half, across = sides
    whole = _piece(name, slot, size, size, at_least=0.75, half=half)
    side = round(size * (0.3 if slot.hard else 0.42))

    def cut(picture: Image) -> Image:
        x, y = dice.randint(0, size - side), dice.randint(0, size - side)
        piece = picture.crop((x, y, x + side, y + side))
        if _flat(piece):
            raise DoesNotFit
        return _changed(piece, slot)

    elsewhere = [_piece(name, slot, size, size, at_least=0.75, half=across) for _ in range(2)]
    pieces = [cut(whole), *map(cut, elsewhere), cut(_piece(other, slot, size, size, at_least=0.6))]
    if any(_alike(pieces[0], wrong) for wrong in pieces[1:]):
        raise DoesNotFit
    place = slot.deal("place", range(4))
    shown = [*pieces[1 : place + 1], pieces[0], *pieces[place + 1 :]]
    small = max(56, size // 2)
    return Draft(
        key="",
        task="choice",
        question="Which of the pictures 2 to 5 shows a part of picture 1?",
        choices=("picture 2", "picture 3", "picture 4", "picture 5"),
        answer=Answer(type="choice", value="ABCD"[place]),
        media=(png(whole), *(png(_scaled(piece, small, small)) for piece in shown)),
        metadata={"kind": "matching", "photographs": [name, other]},
    )


_KINDS: Mapping[str, Callable[[Slot, int, Sequence[str]], Draft]] = {
    "pasted": _pasted,
    "cut_out": _cut_out,
    "orientation": _orientation,
    "matching": _matching,
}


def _piece(
    name: str,
    slot: Slot,
    width: int,
    height: int,
    *,
    at_least: float,
    half: Literal["left", "right"] | None = None,
) -> Image:
    """A random part of a photograph, or of one half of it, scaled to width × height: at least that share of the largest
    part of this shape.
    """
    from PIL import Image

    photograph = load_photograph(name)
    dice = slot.random
    if half is not None:
        middle = photograph.width // 2
        photograph = photograph.crop(
            (0, 0, middle, photograph.height) if half == "left" else (middle, 0, *photograph.size)
        )
    longest = min(photograph.width / width, photograph.height / height)
    scale = longest * dice.uniform(at_least, 1.0)
    w, h = width * scale, height * scale
    x, y = dice.uniform(0, photograph.width - w), dice.uniform(0, photograph.height - h)
    return photograph.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h), reducing_gap=2.0)


def _changed(piece: Image, slot: Slot) -> Image:
    """In hard splits mirrored, turned by a half, paler or grey; as it is otherwise."""
    if not slot.hard:
        return piece
    from PIL import ImageOps

    change = slot.random.choice(("mirror", "turn", "pale", "grey"))
    if change == "mirror":
        return ImageOps.mirror(piece)
    if change == "turn":
        return piece.rotate(180)
    return _paler(piece, 0.6) if change == "pale" else piece.convert("L").convert("RGB")


def _paler(piece: Image, contrast: float) -> Image:
    from PIL import ImageEnhance

    return ImageEnhance.Contrast(piece).enhance(contrast)


def _scaled(piece: Image, width: int, height: int) -> Image:
    from PIL import Image

    return piece.resize((max(28, width), max(28, height)), Image.Resampling.BICUBIC)


def _flat(piece: Image) -> bool:
    """Whether there is next to nothing to recognise it by."""
    from PIL import ImageStat

    return ImageStat.Stat(piece.convert("L")).stddev[0] < 14


def _alike(a: Image, b: Image) -> bool:
    from PIL import ImageChops, ImageStat

    small = [picture.convert("L").resize((8, 8)) for picture in (a, b)]
    return ImageStat.Stat(ImageChops.difference(*small)).mean[0] < 18
