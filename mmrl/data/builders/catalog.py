"""The builders by name. To add one: a file beside this one, and a line in `BUILDERS`.

A builder is a function `(options, *, seed) -> Source`. It reads or generates rows one after the other, imports what it
needs inside the function, refuses a source it cannot read with a DataError, and yields a `Dropped` for every row that
it leaves out. Splits, duplicates, files and the lock are the work of `build_recipe`.

A builder that `generates` its rows is called with `splits` (split → how many rows) as well, and names the split of
each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from mmrl.data.builders.converted import ConvertedOptions, build_converted
from mmrl.data.builders.digits import DigitsOptions, build_digits
from mmrl.data.builders.worlds.attribute import AttributeOptions, build_attribute
from mmrl.data.builders.worlds.charts import ChartOptions, build_charts
from mmrl.data.builders.worlds.clips import ClipOptions, build_clips
from mmrl.data.builders.worlds.counting import CountingOptions, build_counting
from mmrl.data.builders.worlds.grounding import GroundingOptions, build_grounding
from mmrl.data.builders.worlds.photographs import PhotographOptions, build_photographs
from mmrl.data.builders.worlds.reading import ReadingOptions, build_reading
from mmrl.data.builders.worlds.room import RoomOptions, build_room
from mmrl.data.builders.worlds.signs import SignOptions, build_signs
from mmrl.data.builders.worlds.steps import StepOptions, build_steps
from mmrl.data.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """One kind of source."""

    options: type[BaseModel]  # what a recipe may set
    build: Callable[..., Source]  # (options, *, seed), and splits where it generates
    revision: int  # raise it whenever the same recipe begins to give other files
    generates: bool = False  # makes as many rows as are asked for, for named splits
    packaged: bool = False  # reads nothing but what an installed package ships

    @property
    def needs_nothing(self) -> bool:
        """Whether its rows can be had at once: no file of the user's, nothing from the network."""
        return self.generates or self.packaged


BUILDERS: Mapping[str, Builder] = {
    "digits": Builder(options=DigitsOptions, build=build_digits, revision=1, packaged=True),
    "converted": Builder(options=ConvertedOptions, build=build_converted, revision=2),
    "counting": Builder(options=CountingOptions, build=build_counting, revision=1, generates=True),
    "attribute": Builder(options=AttributeOptions, build=build_attribute, revision=1, generates=True),
    "grounding": Builder(options=GroundingOptions, build=build_grounding, revision=1, generates=True),
    "reading": Builder(options=ReadingOptions, build=build_reading, revision=1, generates=True),
    "charts": Builder(options=ChartOptions, build=build_charts, revision=1, generates=True),
    "clips": Builder(options=ClipOptions, build=build_clips, revision=3, generates=True),
    "room": Builder(options=RoomOptions, build=build_room, revision=1, generates=True),
    "photographs": Builder(options=PhotographOptions, build=build_photographs, revision=1, generates=True),
    "signs": Builder(options=SignOptions, build=build_signs, revision=1, generates=True),
    "steps": Builder(options=StepOptions, build=build_steps, revision=1, generates=True),
}
