"""A task with large pictures that a tiny model learns in minutes: the quickstart's digits, written all over a page.

448×448 pixels are 256 visual tokens: 64 copies of one handwritten digit, four tokens each, under noise. Questions and
answers are those of the digits at 4 visual tokens, so that the two tasks differ in what a picture costs, not in what is
to be learned. Written as a manifest like any data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmrl.data.manifest import write_manifest
from mmrl.types import Media, Sample

COPIES = 8  # along each edge
CELL = 14  # pixels: the noise is coarse, so that files stay small
NOISE = 20.0  # grey levels: its standard deviation


def write_pages(samples: Sequence[Sample], folder: Path, *, seed: int) -> Path:
    """The digits' samples as pages below `folder`; returns the manifest. Equal seeds, equal pictures."""
    random = np.random.default_rng([seed, COPIES])
    (folder / "images").mkdir(parents=True, exist_ok=True)
    written = []
    for sample in samples:
        source = sample.media[0].path
        assert source is not None
        path = folder / "images" / f"{sample.id}.png"
        with Image.open(source) as digit:
            page(digit.convert("L"), random).save(path)
        written.append(replace(sample, media=(Media(type="image", path=str(path)),)))
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, written)
    return manifest


def page(digit: Image.Image, random: np.random.Generator) -> Image.Image:
    """One picture: the digit 64 times, each cell of 14×14 pixels lighter or darker by chance."""
    written = np.tile(np.asarray(digit, np.float64), (COPIES, COPIES))
    rows, columns = (edge // CELL for edge in written.shape)
    noise = random.normal(0.0, NOISE, (rows, columns)).repeat(CELL, 0).repeat(CELL, 1)
    return Image.fromarray((written + noise).clip(0, 255).astype(np.uint8)).convert("RGB")
