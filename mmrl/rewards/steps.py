"""Is every step of the reasoning right? For samples whose steps are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.errors import RewardError
from mmrl.rewards.answer import reasoning_text
from mmrl.types import Completion, Sample, Score

LONGEST = 300_000  # characters; longer reasoning is read as having no steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How far the reasoning follows the known steps: the length of their common beginning / the longer of the two.

    The sample's `metadata["steps"]` lists what each step arrives at, `metadata["step_words"]` all words of that kind;
    the words of that kind that the reasoning names, in order, are its steps. One name right after the same name (a
    conclusion that repeats the last step) counts once, so at a row of equal steps the name has to change in between. A
    completion of more than 300,000 characters scores 0 unread.
    """

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        wanted, words = _steps(sample)
        if len(completion.text) > LONGEST:
            return Score(value=0.0, details={"steps": [], "right": 0})
        pattern = re.compile(r"\b(?:" + "|".join(re.escape(word) for word in words) + r")\b")
        said = _without_echo(pattern.findall(reasoning_text(completion.text).lower()))
        kept = 0
        while kept < min(len(said), len(wanted)) and said[kept] == wanted[kept]:
            kept += 1
        return Score(value=kept / max(len(said), len(wanted), 1), details={"steps": said[:50], "right": kept})

    def verify(self, sample: Sample) -> None:
        wanted, words = _steps(sample)
        if not wanted or not set(wanted) <= set(words):
            raise RewardError(
                f"sample {sample.id!r}: reward 'steps' needs metadata['steps'], each of them in metadata['step_words']."
            )


def _steps(sample: Sample) -> tuple[list[str], list[str]]:
    steps, words = sample.metadata.get("steps", ()), sample.metadata.get("step_words", ())
    wanted = _without_echo([str(step).lower() for step in steps])
    return wanted, sorted((str(word).lower() for word in words), key=len, reverse=True)


def _without_echo(names: Sequence[str]) -> list[str]:
    return [name for place, name in enumerate(names) if place == 0 or name != names[place - 1]]
