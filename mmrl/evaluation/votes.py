"""What a completion votes for in majority@k: the answer that it gives, in a form in which equal answers are equal.

    "B", "(B)", "B. cup" of a question with options      → "B"
    "12", "12.0", "twelve" · "1/2", "0.5"                → "12" · "0.5"
    "The cat." of a question for a text                  → "the cat"

Answers are read as the rewards read them (`mmrl/rewards`), by the type of the sample's answer. What no reader knows
votes by its text: five that say "I cannot tell" are five of one mind. Without an answer block that counts there is no
vote. The gold answer has no part in it (but for "50%", which a question for a number may mean as 50 or as 0.5).
"""

from __future__ import annotations

import re

from mmrl.rewards.answer import answer_text
from mmrl.rewards.choice import listed_options
from mmrl.rewards.coordinates import read_boxes, read_point
from mmrl.rewards.normalize import folded
from mmrl.rewards.number import stated_value
from mmrl.rewards.options import named_options
from mmrl.rewards.ordering import read_order
from mmrl.rewards.quantity import LONGEST, read_quantity
from mmrl.rewards.spans import read_spans
from mmrl.rewards.text import TextExact
from mmrl.types import Completion, Sample

_ONLY_NUMBER = re.compile(
    r"[-+−]?\s?(?:[\d,]*\.?\d+|\d+\s?/\s?\d+|\\[dt]?frac\s?\{-?\d+\}\s?\{\d+\})\s?"
    r"(?P<unit>\\?%|°|\^\\circ|\^\{\\circ\}|degrees?)?"  # to `math_verify` an angle is the same without, and 50% is 0.5
)


def vote_of(completion: Completion, sample: Sample, *, tag: str = "answer", ordered: bool = False) -> str | None:
    """The vote of one completion; None: it has none. `tag`: where the answer stands; empty: all of the text is it.

    `ordered`: in which order an answer names several options is part of it (reward `ordering`).
    """
    answer = answer_text(completion, tag)
    if not answer:
        return None
    return _read(answer, completion, sample, tag, ordered) or folded(answer)


def figure(value: float) -> str:
    """A number as a vote: nine digits, so that 1/3 and 0.3333333333 are one."""
    return f"{value + 0.0:.9g}"  # + 0.0: no "-0"


def figures(values: tuple[float, ...] | list[float]) -> str:
    """Several: "[10, 20, 30.5, 40]"."""
    return f"[{', '.join(map(figure, values))}]"


def _read(answer: str, completion: Completion, sample: Sample, tag: str, ordered: bool) -> str:
    """Empty where it cannot be read."""
    match sample.answer.type:
        case "choice":
            return ", ".join(sorted(named_options(answer, sample)))
        case "choices" if ordered:
            return ", ".join(read_order(answer, sample)).upper()
        case "choices":
            return ", ".join(sorted(listed_options(answer, sample)))
        case "number":
            value = stated_value(completion, sample, tag, float(sample.answer.value))
            return "" if value is None else figure(value)
        case "text":
            return TextExact().normalized(answer)
        case "math":
            return _mathematics(answer)
        case "box" | "boxes":
            return _boxes(answer)
        case "point":
            point = read_point(answer)
            return "" if point is None else figures(point)
        case "span" | "spans":
            return "; ".join(figures(span) for span in sorted(read_spans(answer) or ()))


def _boxes(answer: str) -> str:
    """In any order; "[]" and "None" alike say that there is none."""
    boxes = read_boxes(answer)
    if boxes is None:
        return ""
    return "; ".join(sorted(f"{figures(found.box)} {found.label}".strip() for found in boxes)) or "no box"


def _mathematics(answer: str) -> str:
    """A number by its value, all else by its text without spaces: no algebra is done, whose time nothing bounds."""
    bare = folded(answer).strip(" .$")
    return only_number(bare) or bare.replace(" ", "")


def only_number(text: str) -> str:
    """The vote of a text that is a number and nothing else, as "x+1" and "2+2" are not; empty: it is none."""
    found = _ONLY_NUMBER.fullmatch(text) if len(text) <= LONGEST else None
    quantity = read_quantity(text) if found else None
    if found is None or quantity is None:
        return ""
    return figure(quantity.value / 100.0 if "%" in (found["unit"] or "") else quantity.value)
