"""Which options an answer names: "B", "(b)", "B. the cat", "the cat", "I think it is B", "A, C and D"."""

from __future__ import annotations

import re
import unicodedata

from mmrl.rewards.normalize import folded, plain, plain_choices
from mmrl.types import LETTERS, Sample

WITHOUT_CHOICES = LETTERS[:10]  # the letters that may be meant where a sample lists no option texts
LONGEST = 2_000  # characters; a longer text is no choice

_BARE = re.compile(r"[\s(\[{*]*([A-Za-z])[\s)\]}*.:,;!]*")
_MARKED = re.compile(r"(?:option |choice )?[(\[]?([A-Za-z])[)\].:]\s*(.+)", re.IGNORECASE | re.DOTALL)
_LETTER = re.compile(r"(?<![\w'’])([A-Z])(?![\w'’])")
_WORD_AFTER = re.compile(r" +([a-z]+)")
# "A cat" and "I see" are words; "A is right" and "I or J" are options.
_ABOUT_AN_OPTION = frozenset(
    (
        "and",
        "or",
        "is",
        "was",
        "are",
        "were",
        "but",
        "not",
        "nor",
        "because",
        "since",
        "as",
        "seems",
        "looks",
        "matches",
    )
)


def letters_of(sample: Sample) -> str:
    """The option letters of a sample."""
    return sample.letters or WITHOUT_CHOICES


def named_options(answer: str, sample: Sample) -> frozenset[str]:
    """The letters of all options that `answer` names, by letter or by text.

    A text that names nothing gives the empty set, and one that contradicts itself ("B. the cat" where the cat is C)
    gives every option it names. Letters stand alone, in capitals unless the letter is all there is.
    """
    letters = letters_of(sample)
    if answer in letters and len(answer) == 1:
        return frozenset(answer)
    if len(answer) > LONGEST:
        return frozenset()
    if not answer.isascii():
        answer = unicodedata.normalize("NFKC", answer)
    bare = _BARE.fullmatch(answer)
    if bare:
        letter = bare[1].upper()
        exact = _exact_text(answer, sample)
        return frozenset(exact or (letter if letter in letters else ""))
    exact = _exact_text(answer, sample)
    if exact:
        return frozenset(exact)
    marked = _MARKED.match(answer)
    mark = marked[1].upper() if marked else ""
    if marked and mark in letters and _is_text_of(marked[2], mark, sample):
        return frozenset(mark)
    named = {*_standalone_letters(answer, letters), *(mark if mark in letters else "")}
    if len(named) == 1 and _is_text_of(_LETTER.sub(" ", answer, count=1), next(iter(named)), sample):
        return frozenset(named)
    return frozenset(named) | _quoted_texts(answer, sample)


def _exact_text(answer: str, sample: Sample) -> str:
    """The letter of the one option whose text is `answer`; empty where there is none, or more than one."""
    if not sample.choices:
        return ""
    texts = plain_choices(sample.choices)
    said = plain(answer)
    if texts.count(said) != 1:
        return ""
    place = texts.index(said)
    # An option whose text is a letter ("A" is the text of option C) loses against the letter itself.
    return "" if len(said) == 1 and said.upper() in letters_of(sample) else LETTERS[place : place + 1]


def _is_text_of(rest: str, letter: str, sample: Sample) -> bool:
    place = LETTERS.index(letter)
    return place < len(sample.choices) and plain(rest) == plain_choices(sample.choices)[place]


def _standalone_letters(answer: str, letters: str) -> list[str]:
    found = []
    for match in _LETTER.finditer(answer):
        letter = match[1]
        if letter not in letters:
            continue
        if letter in "AI":
            word = _WORD_AFTER.match(answer, match.end())
            if word and word[1] not in _ABOUT_AN_OPTION:
                continue
        found.append(letter)
    return found


def _quoted_texts(answer: str, sample: Sample) -> frozenset[str]:
    """Options whose text occurs in the answer as whole words, without those inside a longer one that occurs too."""
    if not sample.choices:
        return frozenset()
    said = f" {_spaced(folded(answer))} "
    texts = [_spaced(text) for text in plain_choices(sample.choices)]
    found = [place for place, text in enumerate(texts[: len(LETTERS)]) if len(text) > 1 or text.isdigit()]
    found = [place for place in found if f" {texts[place]} " in said]
    longest = [
        place
        for place in found
        if not any(other != place and f" {texts[place]} " in f" {texts[other]} " for other in found)
    ]
    return frozenset(LETTERS[place] for place in longest)


def _spaced(text: str) -> str:
    return " ".join(re.findall(r"\w+(?:[.']\w+)*|[^\w\s.,;:!?()\"]", text))
