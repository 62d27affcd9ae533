"""1,797 real handwritten digits, one per picture: "Which digit is written here?".

Source: the test part (13 writers) of the UCI data set "Optical Recognition of Handwritten Digits", 8×8 cells with 17
grey levels, as scikit-learn ships it (`sklearn.datasets.load_digits`; no download), enlarged with bicubic
interpolation. No two are identical. Who wrote which digit is not recorded, so writers do occur in several splits.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmrl.data.source import Draft, NewFile, Source
from mmrl.errors import DataError
from mmrl.types import Answer

if TYPE_CHECKING:
    import numpy as np

_LEVELS = 16  # ink of a full cell


class DigitsOptions(BaseModel):
    """Options of the builder `digits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = "Which digit is written here?"
    task: str = "choice"
    size: int = Field(56, ge=8, le=1024, description="width and height of the pictures, pixels")
    ink: Literal["dark", "light"] = Field("dark", description="dark ink on white paper, or light on black")
    limit: int | None = Field(None, ge=1, description="only the first so many rows of the source; null: all")


def build_digits(options: DigitsOptions, *, seed: int) -> Source:
    """One draft per digit, in the source's order; nothing about them is random."""
    try:
        import sklearn
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            "the builder 'digits' reads the digits that scikit-learn ships, and scikit-learn is not installed. "
            "Install it: pip install scikit-learn"
        ) from None
    digits: Any = load_digits()
    file = Path(sklearn.__file__).parent / "datasets" / "data" / "digits.csv.gz"
    images, labels = digits.images[: options.limit], digits.target[: options.limit]
    return Source(
        rows=_drafts(images, labels, options),
        total=len(labels),
        inputs={f"sklearn/datasets/data/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()},
        packages=("scikit-learn", "pillow"),
    )


def digit_png(cells: np.ndarray[Any, Any], *, size: int, ink: Literal["dark", "light"]) -> bytes:
    """An 8×8 picture with values 0–16 as a grey PNG: 16 is full ink, enlarged with bicubic interpolation."""
    import numpy as np
    from PIL import Image

    grey = np.rint(cells * (255 / _LEVELS)).astype(np.uint8)
    picture = Image.fromarray(255 - grey if ink == "dark" else grey)
    file = io.BytesIO()
    picture.resize((size, size), Image.Resampling.BICUBIC).save(file, format="PNG")
    return file.getvalue()


def _drafts(images: Any, labels: Any, options: DigitsOptions) -> Iterator[Draft]:
    choices = tuple(str(digit) for digit in range(10))
    for row, (cells, label) in enumerate(zip(images, labels, strict=True)):
        digit = int(label)
        content = digit_png(cells, size=options.size, ink=options.ink)
        yield Draft(
            key=f"{row:04d}",
            task=options.task,
            question=options.question,
            media=(NewFile(type="image", content=content, suffix=".png"),),
            choices=choices,
            answer=Answer(type="choice", value="ABCDEFGHIJ"[digit]),
            stratum=str(digit),
            metadata={"digit": digit},
        )
