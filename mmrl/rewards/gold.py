"""The right answer as a perfect policy would write it: for checks before a run, lint, cold starts and tests."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mmrl.errors import DataError
from mmrl.types import Completion, MediaView, Sample, Space


def gold_answer(sample: Sample, views: Sequence[MediaView] = ()) -> str:
    """The text between the answer tags. With `views`, coordinates are written as the model speaks them."""
    value = sample.answer.value
    match sample.answer.type:
        case "choice" | "text" | "math":
            return str(value)
        case "choices":
            return ", ".join(value)
        case "number":
            unit = sample.answer.unit or ""
            return _figure(value) + (unit if unit == "%" else f" {unit}" if unit else "")
        case "box":
            return _listed(_spoken(value, sample.answer.space, views))
        case "boxes":
            return json.dumps([_rounded(_spoken(box, sample.answer.space, views)) for box in value])
        case "point":
            return _listed(_spoken(value, sample.answer.space, views))
        case "span":
            return f"{_figure(value[0])} to {_figure(value[1])}"
        case "spans":
            return json.dumps([_rounded(span) for span in value])
    raise DataError(f"sample {sample.id!r}: unknown answer type {sample.answer.type!r}.")


def gold_completion(sample: Sample, views: Sequence[MediaView] = (), reasoning: str = "") -> Completion:
    """A whole completion in think/answer form. `reasoning` defaults to a sentence that ends at the answer."""
    answer = gold_answer(sample, views)
    thought = reasoning or f"The answer is {answer}."
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    return Completion(text=text, token_count=len(text.split()), views=tuple(views))


def _spoken(numbers: Sequence[float], space: Space, views: Sequence[MediaView]) -> list[float]:
    """Coordinates of a box or point in the space that the model speaks; unchanged without a view."""
    if not views:
        return [float(number) for number in numbers]
    view = views[0]
    scale = {"pixels": (1.0, 1.0), "unit": (view.width, view.height)}.get(
        space, (view.width / 1000, view.height / 1000)
    )
    spoken: list[float] = []
    for x, y in zip(numbers[0::2], numbers[1::2], strict=True):
        spoken += view.to_spoken(x * scale[0], y * scale[1])
    return spoken


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [round(float(number), 6) for number in numbers]


def _listed(numbers: Sequence[float]) -> str:
    return "[" + ", ".join(_figure(number) for number in numbers) + "]"


def _figure(value: float) -> str:
    """A number without needless decimals."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
