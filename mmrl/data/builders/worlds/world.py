"""What all worlds share: as many questions as are asked for, balanced, reproducible, no picture twice.

A world is a function `(slot, options) -> Draft`. A `Slot` is the place of a question in its split: what is to be
balanced (the right option's place, the number to count) is *dealt* by the place, everything else is drawn from the
slot's random numbers. Where the function raises `DoesNotFit`, or gives a picture that was given before, it is called
again with other random numbers; what is dealt stays.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from mmrl.data.source import Draft, NewFile, Source
from mmrl.errors import DataError
from mmrl.types import LETTERS, Answer, Media

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_ATTEMPTS = 400  # before a world is said to be too small for what is asked of it


class WorldOptions(BaseModel):
    """Options of every world."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(112, ge=56, le=2048, description="side of the pictures, pixels; 112 is 16 tokens of 28×28")
    hard_splits: tuple[str, ...] = Field(("test_hard",), description="the splits that are drawn harder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The place of one question."""

    world: str
    seed: int
    split: str
    number: int  # in its split, from 0; after `deal_kind`, among the slots of its kind
    hard: bool
    random: random.Random  # of this attempt

    def deal(self, what: str, values: Sequence[T]) -> T:
        """One of `values`: over each run of len(values) questions every value once, in an order of the run's own."""
        run, place = divmod(self.number, len(values))
        order = list(range(len(values)))
        seeded(self.world, self.seed, self.split, what, run).shuffle(order)
        return values[order[place]]

    def deal_kind(self, what: str, values: Sequence[T]) -> tuple[T, Slot]:
        """A dealt value, and the slot's place among those that are dealt the same value: for what is to be balanced
        within each kind of question.
        """
        return self.deal(what, values), replace(self, number=self.number // len(values))

    def options(self, right: str, wrong: Sequence[str]) -> tuple[tuple[str, ...], Answer]:
        """Option texts in random order with the right one at a dealt place, and the answer."""
        place = self.deal("place", range(len(wrong) + 1))
        others = self.random.sample(list(wrong), len(wrong))
        choices = (*others[:place], right, *others[place:])
        return choices, Answer(type="choice", value=LETTERS[place])


def in_one_order(right: str, known: Sequence[str]) -> tuple[tuple[str, ...], Answer]:
    """All that is known as options, in its own order whatever the question, and the answer."""
    return tuple(known), Answer(type="choice", value=LETTERS[list(known).index(right)])


Make = Callable[[Slot], Draft]


class DoesNotFit(Exception):
    """What was drawn leaves no room, or no clear answer: try again with other random numbers."""


def seeded(*names: object) -> random.Random:
    """Random numbers that depend on the names alone."""
    text = "\0".join(str(name) for name in names)
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def generated(
    world: str,
    make: Make,
    *,
    seed: int,
    splits: Mapping[str, int],
    hard_splits: Sequence[str],
    packages: Sequence[str] = ("pillow",),
    inputs: Mapping[str, str] | None = None,
    notices: Sequence[str] = (),
) -> Source:
    """The source of a world. `world` names it: two worlds draw different random numbers from one seed."""
    return Source(
        rows=_rows(world, make, seed=seed, splits=splits, hard_splits=hard_splits),
        total=sum(splits.values()),
        inputs=dict(inputs or {}),
        packages=tuple(packages),
        notices=tuple(notices),
    )


def _rows(
    world: str, make: Make, *, seed: int, splits: Mapping[str, int], hard_splits: Sequence[str]
) -> Iterator[Draft]:
    seen: set[bytes] = set()  # 8 bytes of each picture's digest
    for split, count in splits.items():
        for number in range(count):
            yield _row(world, make, seed, split, number, split in hard_splits, seen)


def _row(world: str, make: Make, seed: int, split: str, number: int, hard: bool, seen: set[bytes]) -> Draft:
    for attempt in range(_ATTEMPTS):
        slot = Slot(
            world=world,
            seed=seed,
            split=split,
            number=number,
            hard=hard,
            random=seeded(world, seed, split, number, attempt),
        )
        try:
            draft = make(slot)
        except DoesNotFit:
            continue
        content = _content(draft)
        if content in seen:
            continue
        seen.add(content)
        level = "hard" if hard else "plain"
        metadata = {**draft.metadata, "level": level}
        return replace(draft, key=f"{split}-{number:06d}", split=split, metadata=metadata)
    raise DataError(
        f"the world {world!r} finds nothing new for question {number} of {split} in {_ATTEMPTS} attempts. Ask for "
        f"fewer questions, or give it more room (a larger size)"
    )


def _content(draft: Draft) -> bytes:
    whole = hashlib.sha256()
    for item in draft.media:
        whole.update(repr(item).encode() if isinstance(item, Media) else item.content)
    if not draft.media:
        whole.update(draft.question.encode())
    return whole.digest()[:8]


def png(picture: Image) -> NewFile:
    """A picture as a new file."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return NewFile(type="image", content=file.getvalue(), suffix=".png")
