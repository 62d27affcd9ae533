"""The one number that a text states: "3", "-1,234.5", "3/4", "1 1/2", "½", "1.2e3", "1.2 × 10^3", "50%", "twenty-one",
"about 3.5 m", "\\frac{3}{4}".

A text that states several different numbers states none: "3 or 4", "1, 2, 3", "2 + 3 = 5". A comma is a thousands
separator where three digits follow, and a separator of numbers elsewhere.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

LONGEST = 300  # characters; a longer text is a wall, not a number

# unit → (dimension, factor to the dimension's base unit)
UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), ("length", 1.0)),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"), ("length", 1000.0)),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), ("length", 0.01)),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), ("length", 0.001)),
    **dict.fromkeys(("ft", "foot", "feet"), ("length", 0.3048)),
    **dict.fromkeys(("inch", "inches"), ("length", 0.0254)),
    **dict.fromkeys(("m2", "sqm"), ("area", 1.0)),
    "cm2": ("area", 1e-4),
    "km2": ("area", 1e6),
    **dict.fromkeys(("ft2", "sqft"), ("area", 0.09290304)),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("time", 1.0)),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), ("time", 0.001)),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), ("time", 60.0)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), ("time", 3600.0)),
    **dict.fromkeys(("g", "gram", "grams"), ("mass", 0.001)),
    **dict.fromkeys(("kg", "kilogram", "kilograms"), ("mass", 1.0)),
    **dict.fromkeys(("°", "deg", "degree", "degrees"), ("angle", 1.0)),
    **dict.fromkeys(("rad", "radian", "radians"), ("angle", 180.0 / math.pi)),
    **dict.fromkeys(("%", "percent", "per cent"), ("share", 0.01)),
}

# fmt: off
_SMALL = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}
# fmt: on
_WORDS = "|".join(sorted([*_SMALL, *_TENS, "hundred"], key=len, reverse=True))

_WHOLE = r"(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)"
_PLAIN = re.compile(r"[-+]?\d{1,15}(?:\.\d{1,15})?")
_NUMBER = re.compile(
    rf"""
    (?<![\w.])                                            # not inside a word, not after a digit
    (?P<sign>[-+](?=[\d.$]))?\s?[$€£]?
    (?:
      (?P<mixed>\d{{1,9}})\s(?P<over>\d{{1,9}})/(?P<under>\d{{1,9}})      # 1 1/2
    | (?P<above>\d{{1,15}})\s?/\s?(?P<below>\d{{1,15}})(?!\s?/)          # 3/4
    | (?P<digits>(?:{_WHOLE}(?:\.\d*+)?+|\.\d++)(?!\.\d))
      (?:[eE](?P<exponent>[-+]?\d{{1,3}})(?!\w)|\s?[x×*]\s?10\^?\{{?(?P<power>[-+]?\d{{1,3}})\}}?)?
    )
    """,
    re.VERBOSE,
)
_SPELLED = re.compile(rf"\b(?:{_WORDS})(?:(?:[\s-]|\sand\s)(?:{_WORDS}))*\b")
_FRACTION = re.compile(r"\\[dt]?frac\s?\{\s?(-?\d{1,15})\s?\}\s?\{\s?(\d{1,15})\s?\}")
_UNIT = re.compile(r"\s?(%|°|per\scent\b|[a-z]+2?(?!\w))")
_SQUARE = re.compile(r"\s?(?:square|sq\.?)\s(m|km|cm|ft|meters?|metres?|feet|foot)\b")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and the unit written after it."""

    value: float
    unit: str = ""  # as a key of UNITS; empty: none, or none that is known


def read_quantity(text: str) -> Quantity | None:
    """The one number that `text` states; None where it states none, several, or one that is not finite."""
    if len(text) > LONGEST:
        return None
    if _PLAIN.fullmatch(text):
        return Quantity(float(text))
    line = _unified(text)
    found = [*_in_digits(line), *_in_words(line)]
    if not found or any(not math.isfinite(quantity.value) for quantity in found):
        return None
    first = found[0]
    if any(other.value != first.value for other in found[1:]):
        return None
    return next((quantity for quantity in found if quantity.unit), first)


def last_quantity(text: str) -> Quantity | None:
    """The last finite number in the last characters of `text`, whatever others stand before it."""
    found = [*_in_words(line := _unified(text[-LONGEST:])), *_in_digits(line)]
    return found[-1] if found and math.isfinite(found[-1].value) else None


def convert(quantity: Quantity, unit: str) -> float | None:
    """The value in `unit`; None where the units measure different things. A unit nobody knows is taken as agreed."""
    wanted = UNITS.get(_unified(unit).strip())
    said = UNITS.get(quantity.unit)
    if wanted is None or said is None:
        return quantity.value
    if wanted[0] != said[0]:
        return None
    return quantity.value if wanted == said else quantity.value * said[1] / wanted[1]


def _unified(text: str) -> str:
    """One spelling for signs, spaces, superscripts, fractions and LaTeX's wrapping."""
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)  # 1½ is 1 1/2, not 11/2
    text = unicodedata.normalize("NFKC", text).lower()
    text = (
        text.replace("−", "-").replace("⁄", "/").replace("\\%", "%").replace("^\\circ", "°").replace("^{\\circ}", "°")
    )
    text = re.sub(r"\\(?:text|mathrm|boxed)\s?\{([^{}]*)\}", r" \1 ", text)
    text = text.replace("\\times", "×").replace("\\,", " ").replace("\\ ", " ")
    text = _FRACTION.sub(r" \1/\2 ", text).replace("-$", "-")
    text = re.sub(r"(?<=[a-z])\^\{?2\}?", "2", text)
    text = re.sub(r"^\s*([-+]) (?=\d)", r"\1", text)
    text = re.sub(r"(?<=\d) (?=\d{3}(?!\d))", ",", text) if _spaced_thousands(text) else text
    return " ".join(text.replace("$", " ").split())


def _spaced_thousands(text: str) -> bool:
    return re.fullmatch(r"\D*\d{1,3}(?: \d{3})+(?:\.\d+)?\D*", text) is not None


def _in_digits(line: str) -> list[Quantity]:
    found = []
    for match in _NUMBER.finditer(line):
        sign = -1.0 if match["sign"] == "-" else 1.0
        if match["under"]:
            value = int(match["mixed"]) + _ratio(match["over"], match["under"])
        elif match["below"]:
            value = _ratio(match["above"], match["below"])
        else:
            value = _power(match["digits"].replace(",", ""), match["exponent"] or match["power"] or "0")
        found.append(Quantity(sign * value, _unit_after(line, match.end())))
    return found


def _ratio(above: str, below: str) -> float:
    return int(above) / int(below) if int(below) else math.nan


def _power(digits: str, exponent: str) -> float:
    return float(f"{digits}e{int(exponent)}")


def _unit_after(line: str, end: int) -> str:
    square = _SQUARE.match(line, end)
    if square:
        word = square[1]
        return {"k": "km2", "c": "cm2", "f": "ft2"}.get(word[0], "m2")
    match = _UNIT.match(line, end)
    return match[1] if match and match[1] in UNITS else ""


def _in_words(line: str) -> list[Quantity]:
    found = []
    for match in _SPELLED.finditer(line):
        words = [word for word in re.split(r"[\s-]", match[0]) if word != "and"]
        value = _spelled_value(words)
        found.append(Quantity(math.nan if value is None else float(value), _unit_after(line, match.end())))
    return found


def _spelled_value(words: list[str]) -> int | None:
    """The number below 1,000 that the words spell; None where they spell several ("two three")."""
    total, rest = 0, words
    if "hundred" in words:
        place = words.index("hundred")
        if place > 1 or (place == 1 and not 1 <= _SMALL.get(words[0], 0) <= 9):
            return None
        total, rest = 100 * (_SMALL[words[0]] if place else 1), words[place + 1 :]
    if len(rest) == 2 and rest[0] in _TENS and 1 <= _SMALL.get(rest[1], 0) <= 9:
        return total + _TENS[rest[0]] + _SMALL[rest[1]]
    if len(rest) == 1 and rest[0] != "hundred":
        return total + _TENS.get(rest[0], _SMALL.get(rest[0], 0))
    return total if not rest and "hundred" in words else None
