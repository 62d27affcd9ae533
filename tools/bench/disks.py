"""A task with large pictures that a tiny model can learn in minutes: which tenth of the colour circle is the disk?

448×448 pixels are 256 visual tokens. The disk's place and size vary, its colour scatters around the hue that is asked
for, and everything is full of noise; no shortcut leads past the picture. Written as a manifest like any data set.
"""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image

from mmrl.data.manifest import write_manifest
from mmrl.types import Answer, Media, Sample

COLOURS = tuple("0123456789")  # tenths of the colour circle: one token each, like the digits of the other task
EDGE = 448
CELL = 14  # pixels: the noise is coarse, so that files stay small
SCATTER = 6.0  # degrees: standard deviation of the hue


def write_disks(folder: Path, *, count: int, seed: int) -> Path:
    """`count` samples below `folder`; returns the manifest. The same seed gives the same pictures."""
    random = np.random.default_rng([seed, 448])
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        colour = int(random.integers(len(COLOURS)))
        path = folder / "images" / f"{number:05d}.png"
        disk(random, colour).save(path)
        samples.append(
            Sample(
                id=f"disks-{seed}-{number:05d}",
                task="choice",
                question="Which colour has the disk? 0 is red, 5 is cyan.",
                media=(Media(type="image", path=str(path)),),
                choices=COLOURS,
                answer=Answer(type="choice", value="ABCDEFGHIJ"[colour]),
            )
        )
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, samples)
    return manifest


def disk(random: np.random.Generator, colour: int) -> Image.Image:
    """One picture: a disk of 45 to 80 pixels' radius on grey noise."""
    cells = EDGE // CELL
    radius = random.uniform(45, 80) / CELL
    x, y = random.uniform(radius, cells - radius, 2)
    hue = (36.0 * colour + random.normal(0.0, SCATTER)) % 360 / 360
    paint = np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.6, 1.0), random.uniform(0.6, 1.0)))
    rows, columns = np.mgrid[0:cells, 0:cells] + 0.5
    inside = ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)[..., None]
    field = np.where(inside, paint, 0.5) + random.normal(0.0, 0.12, (cells, cells, 3))
    pixels = (field.clip(0, 1) * 255).astype(np.uint8).repeat(CELL, 0).repeat(CELL, 1)
    return Image.fromarray(pixels)
