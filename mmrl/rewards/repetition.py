"""Repetition in the completion."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmrl.errors import ConfigError
from mmrl.rewards.answer import outside_answer
from mmrl.types import Completion, Sample, Score

_WORD = re.compile(r"\w+")
_LONGEST_WORD = 40  # characters; what is longer is no word and is read letter by letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """−penalty · (1 − different n-grams / n-grams); 0 where there are fewer than n units. VLM-R1 (arXiv:2504.07615,
    n = 6) and TRL (n = 3, over token ids).

    Units are lower-case words outside the answer block (an answer may well repeat what the reasoning found); a run of
    more than 40 letters without a break is read letter by letter, so that neither "aaaa…" nor a script without spaces
    escapes. Only the last `window` characters are read: a loop does not end once it has begun.

    Example: "5 5 5 5 5" with n = 2: four n-grams, one of them different: −0.75.
    """

    n: int = 3
    penalty: float = 1.0
    window: int = 20_000  # characters

    def __post_init__(self) -> None:
        if self.n < 1 or self.penalty <= 0 or self.window < 1:
            raise ConfigError("reward 'repetition': n and window must be at least 1, penalty above 0.")

    @property
    def bounds(self) -> tuple[float, float]:
        return -self.penalty, 0.0

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        units = self._units(outside_answer(completion.text)[-self.window :].lower())
        total = len(units) - self.n + 1
        if total < 1:
            return Score(value=0.0)
        different = len(set(zip(*(units[i:] for i in range(self.n)), strict=False)))
        return Score(value=-self.penalty * (1.0 - different / total), details={"different": different, "all": total})

    def _units(self, text: str) -> list[str]:
        units: list[str] = []
        for word in _WORD.findall(text):
            if len(word) > _LONGEST_WORD:
                units.extend(word)
            else:
                units.append(word)
        return units
