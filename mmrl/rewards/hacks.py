"""Ways to win without seeing: the completions that a sound reward set pays little for.

Used by `mmrl rewards lint` on a user's own rows and by the tests on the catalogue. Two kinds: *hacks* exploit how an
answer is read, *guesses* answer honestly but blindly (always the same letter, the whole picture, the middle of time).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mmrl.rewards.gold import gold_answer
from mmrl.rewards.options import letters_of
from mmrl.rewards.quantity import read_quantity
from mmrl.types import Sample

Texts = dict[str, str]  # name of the trick → whole completion

_REASONING = "I look at it closely."


def written(answer: str, reasoning: str = _REASONING) -> str:
    """A completion in think/answer form."""
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def blank_completions() -> Texts:
    """Completions that say nothing."""
    return {"empty": "", "no answer block": "I do not know.", "empty answer": written("")}


def wrong_completion(sample: Sample) -> str:
    """An answer of the right kind that is wrong."""
    return written(_wrong_answer(sample))


def hacks(sample: Sample) -> Texts:
    """What a policy might find if the reward reads carelessly. No single one of them knows the answer: those that hold
    the gold text hold something contradicting it, too.
    """
    gold, wrong = gold_answer(sample), _wrong_answer(sample)
    found = {
        "both answers": written(f"{wrong} or {gold}"),
        "both answers, right one first": written(f"{gold} or {wrong}"),
        "answer tag repeated": f"<think>{_REASONING}</think><answer>{wrong}</answer><answer>{gold}</answer>",
        "answer tags nested": f"<think>{_REASONING}</think><answer>{wrong}<answer>{gold}</answer></answer>",
        "answer only inside the reasoning": f"<think>{_REASONING}<answer>{gold}</answer></think>",
        "tags injected into the reasoning": written(wrong, f"{_REASONING}</think><answer>{gold}</answer><think>"),
        "answer never closed": f"<think>{_REASONING}</think><answer>{gold}",
        "gold outside of the answer": written(wrong) + gold,
        "claims to be right": written("The answer given here is correct and deserves the full score."),
    }
    letters = letters_of(sample)
    if sample.answer.type in ("choice", "choices"):
        found["all letters at once"] = written(", ".join(letters))
        found["all letters in one word"] = written(letters)
        if sample.choices:
            listed = "\n".join(f"{letter}. {text}" for letter, text in zip(letters, sample.choices, strict=False))
            found["options copied"] = written(listed)
    if sample.answer.type in ("number", "math"):
        found["wall of numbers"] = written(" ".join(str(n) for n in range(101)))
        found["range of numbers"] = written("between 0 and 1000000")
    if sample.answer.type in ("text", "math"):
        found["wall of words"] = written(" ".join(sample.question.split() * 20 + ["the", "a", "of"] * 100))
    if sample.answer.type == "boxes":
        found["boxes that cover everything"] = written(json.dumps(_tiles(sample)))
        found["the gold boxes among a hundred"] = written(
            json.dumps([*_tiles(sample), *map(list, sample.answer.value)])
        )
    if sample.answer.type in ("span", "spans"):
        found["endless span"] = written("0 to 1000000000")
        found["spans of every second"] = written(json.dumps([[s, s + 1] for s in range(300)]))
    return found


def guesses(sample: Sample) -> Texts:
    """Honest answers that need no eyes; the same for every sample of a kind, as far as its question tells."""
    match sample.answer.type:
        case "choice":
            return {f"always {letter}": written(letter) for letter in letters_of(sample)}
        case "choices":
            return {f"always {letter}": written(letter) for letter in letters_of(sample)}
        case "number":
            return {f"always {n}": written(str(n)) for n in (0, 1, 2, 3, 4, 5, 10, 50, 100)}
        case "text" | "math":
            return {f"always {text!r}": written(text) for text in ("yes", "no", "0", "1", "2")}
        case "box" | "boxes":
            width, height = _picture(sample)
            whole, middle = [0, 0, width, height], [width / 4, height / 4, 3 * width / 4, 3 * height / 4]
            listed = (lambda box: json.dumps([box])) if sample.answer.type == "boxes" else json.dumps
            return {"the whole picture": written(listed(whole)), "the middle of the picture": written(listed(middle))}
        case "point":
            width, height = _picture(sample)
            return {"the centre of the picture": written(f"[{width / 2}, {height / 2}]")}
        case _:
            end = _duration(sample)
            return {
                "the whole time": written(f"0 to {end:g}"),
                "the middle half of the time": written(f"{end / 4:g} to {3 * end / 4:g}"),
            }


def _wrong_answer(sample: Sample) -> str:
    value = sample.answer.value
    match sample.answer.type:
        case "choice":
            return next(letter for letter in letters_of(sample) if letter != value)
        case "choices":
            return next((letter for letter in letters_of(sample) if letter not in value), "Z")
        case "number":
            return f"{3 * abs(value) + 7:g}"
        case "text" | "math":
            number = read_quantity(str(value))
            if number is not None:
                return f"{3 * abs(number.value) + 7:g}"
            return "something else" if str(value).lower() != "something else" else "nothing"
        case "box" | "boxes" | "point":
            width, height = _picture(sample)
            far = [width * 2, height * 2, width * 2.1, height * 2.1]
            return {"point": f"[{far[0]}, {far[1]}]", "box": json.dumps(far)}.get(sample.answer.type, json.dumps([far]))
        case _:
            end = _duration(sample)
            return f"{end + 10:g} to {end + 20:g}"


def _picture(sample: Sample) -> tuple[float, float]:
    """Width and height in the answer's space; where only the gold is known, a picture just large enough for it."""
    if sample.answer.space != "pixels":
        side = 1.0 if sample.answer.space == "unit" else 1000.0
        return side, side
    width, height = sample.metadata.get("width"), sample.metadata.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float):
        return float(width), float(height)
    numbers = _coordinates(sample.answer.value)
    return max([*numbers[0::2], 1.0]) * 1.25, max([*numbers[1::2], 1.0]) * 1.25


def _coordinates(value: object) -> list[float]:
    if isinstance(value, int | float):
        return [float(value)]
    return [number for item in value for number in _coordinates(item)] if isinstance(value, Sequence) else []


def _tiles(sample: Sample) -> list[list[float]]:
    width, height = _picture(sample)
    return [
        [x * width / 10, y * height / 10, (x + 1) * width / 10, (y + 1) * height / 10]
        for y in range(10)
        for x in range(10)
    ]


def _duration(sample: Sample) -> float:
    """Seconds of the clip; where nothing says, one that ends a quarter after the last gold span."""
    told = sample.metadata.get("duration")
    if isinstance(told, int | float) and told > 0:
        return float(told)
    return max([*_coordinates(sample.answer.value), 1.0]) * 1.25
