"""Real files of every kind, from installed wheels: what becomes of each, and that a model can be shown it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn
from PIL import Image

from mmrl.data.images import BrokenMedia, load_image
from mmrl.policy.render import Renderer
from tests import toy

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"


@pytest.mark.parametrize(
    ("path", "size"),
    [
        (SKIMAGE / "coffee.png", (600, 400)),
        (SKIMAGE / "camera.png", (512, 512)),  # grey
        (SKIMAGE / "horse.png", (400, 328)),  # with alpha
        (SKIMAGE / "rocket.jpg", (640, 427)),
        (SKLEARN / "china.jpg", (640, 427)),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else None,
)
def test_photographs_and_drawings_are_read(path: Path, size: tuple[int, int]) -> None:
    picture = load_image(path)
    assert (picture.mode, picture.size) == ("RGB", size)
    plain = Image.open(path)
    if plain.mode == "RGB":
        assert np.array_equal(np.asarray(picture), np.asarray(plain))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("multipage.tif", "several frames"),
        ("no_time_for_that_tiny.gif", "several frames"),
        ("multipage_rgb.tif", "unknown format"),  # scientific planes that Pillow cannot open
    ],
)
def test_files_of_several_frames_are_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(BrokenMedia, match=name) as caught:
        load_image(SKIMAGE / name)
    assert caught.value.reason == reason


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_are_converted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "p.tif"
    value = {"YCbCr": (76, 85, 255), "LAB": (255, 128, 128)}[mode]  # red; white: a and b in the middle
    Image.new(mode, (5, 4), value).save(path, compression="tiff_lzw")  # Pillow 12 does not read its own raw YCbCr
    expected = {"YCbCr": (254, 0, 0), "LAB": (254, 255, 254)}[mode]
    loaded = load_image(path)
    assert (loaded.mode, loaded.size, loaded.getpixel((2, 2))) == ("RGB", (5, 4), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 2), (1, 200), (200, 1), (27, 29)])
def test_tiny_and_thin_pictures_can_be_shown(
    tiny_model: toy.LoadedModel, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "small.png"
    Image.new("RGB", size, "red").save(path)
    policy = tiny_model.policy
    [prompt], dropped = Renderer(tiny_model.processor, policy.family, policy.config).render(
        [toy.choice_sample("s", [path])]
    )
    assert not dropped
    assert prompt.vision is not None
    [(time, height, width)] = prompt.vision.grids
    assert time == 1
    assert min(height, width) >= 2
    assert (prompt.views[0].width, prompt.views[0].height) == size
