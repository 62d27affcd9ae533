"""The world of signs: what the pictures show, read from their pixels, is the answer; a letter means one thing."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label  # type: ignore[import-untyped]

from mmrl.data.builders.worlds.shapes import COLOURS
from mmrl.data.source import Draft
from mmrl.types import Sample
from tests.data_recipes.built import SPLITS, samples

PLACES = [f"{row} {column}".strip() for row in ("top", "", "bottom") for column in ("left", "", "right")]
PLACES[4] = "middle"


def of_kind(kind: str) -> list[Sample]:
    return [sample for split in SPLITS for sample in samples("signs", split) if sample.task == kind]


def pixels(sample: Sample) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(str(sample.media[0].path)).convert("RGB"), dtype=int)


def plain_pixels(sample: Sample) -> np.ndarray[Any, Any]:
    """Where something is drawn on a plain ground: whatever is far from the corner's colour."""
    picture = pixels(sample)
    return np.asarray(np.abs(picture - picture[0, 0]).sum(-1) > 120)


def chosen(sample: Sample) -> str:
    return sample.choices["ABCDEFGHI".index(str(sample.answer.value))]


def test_a_letter_means_the_same_in_every_question():
    options = defaultdict(set)
    for split in SPLITS:
        for sample in samples("signs", split):
            options[sample.task].add(sample.choices)
    assert {kind: len(found) for kind, found in options.items()} == dict.fromkeys(options, 1)
    assert options["colour"] == {tuple(COLOURS)}
    assert options["place"] == {tuple(PLACES)}
    assert options["number"] == {()}


def test_the_colour_that_is_asked_for_is_the_one_that_is_seen():
    for sample in of_kind("colour"):
        distance = {name: np.abs(pixels(sample) - value).sum(-1).min() for name, value in COLOURS.items()}
        seen = np.asarray([distance[name] for name in COLOURS])
        assert distance[chosen(sample)] == seen.min(), sample.id


@pytest.mark.parametrize("kind", ["place", "number"])
def test_place_and_number_are_what_the_pixels_say(kind):
    plain = [sample for sample in of_kind(kind) if sample.metadata["level"] == "plain"]
    assert plain
    for sample in plain:
        drawn = plain_pixels(sample)
        if kind == "number":
            assert label(drawn)[1] == sample.answer.value, sample.id
        else:
            row, column = (int(3 * places.mean() / len(drawn)) for places in np.nonzero(drawn))
            assert PLACES[3 * row + column] == chosen(sample), sample.id


def test_only_the_kinds_that_are_asked_for_are_dealt():
    from mmrl.data.builders.worlds.signs import SignOptions, build_signs

    rows = [*build_signs(SignOptions(kinds=("place", "number"), most=2), seed=3, splits={"train": 12}).rows]
    assert [row.task for row in rows if isinstance(row, Draft)].count("place") == 6
    assert {row.answer.value for row in rows if isinstance(row, Draft) and row.task == "number"} == {1, 2}
