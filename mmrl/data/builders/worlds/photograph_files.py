"""The photographs that scikit-image and scikit-learn ship: what they show, whose they are, where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmrl.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """One file of a library."""

    package: str  # as it is imported
    file: str  # inside the package
    notice: str  # what it shows, whose work it is, under which licence: as its package says
    upright: bool = True  # whether there is no doubt which way is up

    @property
    def place(self) -> str:
        return f"{self.package}/{self.file}"


PHOTOGRAPHS: Mapping[str, Photograph] = {
    "astronaut": Photograph(package="skimage", file="data/astronaut.png", notice="Eileen Collins; NASA; public domain"),
    "coffee": Photograph(package="skimage", file="data/coffee.png", notice="a cup of coffee; Rachel Michetti; CC0"),
    "hubble": Photograph(
        package="skimage",
        file="data/hubble_deep_field.jpg",
        notice="galaxies; NASA and the Hubble Heritage Team; public domain",
        upright=False,
    ),
    "coins": Photograph(
        package="skimage",
        file="data/coins.png",
        notice="Greek coins from Pompeii; Brooklyn Museum; no known copyright restrictions",
        upright=False,
    ),
    "china": Photograph(
        package="sklearn",
        file="datasets/images/china.jpg",
        notice="a Chinese palace; danielbuechele (flickr.com/photos/danielbuechele); CC BY 2.0, pieces cut and changed",
    ),
    "camera": Photograph(package="skimage", file="data/camera.png", notice="a photographer; Lav Varshney; CC0"),
    "retina": Photograph(
        package="skimage",
        file="data/retina.jpg",
        notice="a human retina; Häggström, WikiJournal of Medicine 1 (2014); CC0",
        upright=False,
    ),
    "chelsea": Photograph(package="skimage", file="data/chelsea.png", notice="a cat; Stéfan van der Walt; CC0"),
    "rocket": Photograph(
        package="skimage", file="data/rocket.jpg", notice="a Falcon 9 on its launch pad; SpaceX; public domain"
    ),
    "flower": Photograph(
        package="sklearn",
        file="datasets/images/flower.jpg",
        notice="a flower; vultilion (flickr.com/photos/vultilion); CC BY 2.0, pieces cut and changed",
        upright=False,
    ),
}


@cache
def load_photograph(name: str) -> Image:
    """The whole picture, RGB."""
    from PIL import Image

    with Image.open(photograph_path(name)) as picture:
        return picture.convert("RGB")


def photograph_path(name: str) -> Path:
    """Its file; a DataError where its package is not installed, or does not ship it."""
    from importlib.util import find_spec

    photograph = PHOTOGRAPHS[name]
    found = find_spec(photograph.package)
    if found is None or found.origin is None:
        raise DataError(
            f"the builder 'photographs' reads {photograph.file} of the package {photograph.package}, which is not "
            f"installed. Install it: pip install 'mmrl[data]'"
        )
    path = Path(found.origin).parent / photograph.file
    if not path.is_file():
        raise DataError(f"{path} is missing: this version of {photograph.package} does not ship it; install another")
    return path
