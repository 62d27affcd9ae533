"""Does the reasoning end at the answer that is given? By rules, as a reward and as a metric of evaluation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError
from mmrl.rewards.answer import find_answer, reasoning_text
from mmrl.rewards.normalize import folded, plain
from mmrl.rewards.options import named_options
from mmrl.rewards.quantity import last_quantity, read_quantity
from mmrl.types import Completion, Sample, Score

Verdict = Literal["agrees", "contradicts", "unstated"]

_WINDOW = 600  # characters at the end of the reasoning in which its conclusion is looked for
_SENTENCE = re.compile(r"(?<=[.!?\n])\s+")
_CONCLUSION = re.compile(
    r"\b(?:answer|option|choice|therefore|thus|hence|conclude|so)\b(?:\s+(?:is|must be|should be))?\s*:?", re.IGNORECASE
)


def agreement(text: str, sample: Sample) -> Verdict:
    """Whether the reasoning of a completion concludes with its answer. Says nothing about whether that is right.

    The conclusion is looked for in the last sentences of the reasoning, from the end: the first one that names options
    (choice answers), a number (number, math), or the answer's text (all others) is it. A reasoning that names none
    leaves it unstated. Without a valid answer: contradicts.
    """
    answer = find_answer(text).valid
    if not answer:
        return "contradicts"
    sentences = [part for part in _SENTENCE.split(reasoning_text(text)[-_WINDOW:]) if part.strip()]
    if sample.answer.type in ("choice", "choices"):
        return _same_options(answer, sentences, sample)
    if sample.answer.type in ("number", "math") and read_quantity(answer) is not None:
        return _same_number(answer, sentences)
    said = plain(answer)
    return "agrees" if said and said in folded(" ".join(sentences)) else "unstated"


def _same_options(answer: str, sentences: list[str], sample: Sample) -> Verdict:
    given = named_options(answer, sample)
    for sentence in reversed(sentences):
        concluded = named_options(_after_cue(sentence), sample) or named_options(sentence, sample)
        if concluded:
            return "agrees" if concluded == given else "contradicts"
    return "unstated"


def _same_number(answer: str, sentences: list[str]) -> Verdict:
    given = read_quantity(answer)
    for sentence in reversed(sentences):
        concluded = last_quantity(_after_cue(sentence))
        if concluded is not None and given is not None:
            close = abs(concluded.value - given.value) <= 1e-6 * max(1.0, abs(given.value))
            return "agrees" if close else "contradicts"
    return "unstated"


def _after_cue(sentence: str) -> str:
    """What follows the last word that announces a conclusion; the sentence where there is no such word."""
    cues = list(_CONCLUSION.finditer(sentence))
    rest = sentence[cues[-1].end() :] if cues else ""
    return rest.strip() or sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """1 where the reasoning ends at the answer that is given, 0 where it ends elsewhere or no answer is given;
    `unstated` where it names no conclusion. Catches answers that the reasoning does not lead to, the fault that
    GRPO-CARE (arXiv:2506.16141) rewards against with a reference model's likelihood; here by rules, without a model.
    """

    unstated: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.unstated <= 1:
            raise ConfigError("reward 'agreement': unstated must be in [0, 1].")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        verdict = agreement(completion.text, sample)
        return Score(
            value={"agrees": 1.0, "contradicts": 0.0, "unstated": self.unstated}[verdict], details={"verdict": verdict}
        )
