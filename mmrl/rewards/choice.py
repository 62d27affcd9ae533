"""One right option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.options import letters_of, named_options
from mmrl.rewards.reward import wrong_type
from mmrl.types import LETTERS, Completion, Sample, Score

_RIGHT = Score(value=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """1 where the answer names the right option and no other: by letter, by its text, or in a sentence.

    An answer that names several options is worth 0, or, with `several="share"`, 1/k where the right one is among the k
    it names: what guessing among them would earn. (`named_options` says how a text is read; the rules of
    arXiv:2412.14171 and arXiv:2504.07615 take the first word or the likeliest letter.)
    """

    several: Literal["zero", "share"] = "zero"
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.several not in ("zero", "share"):
            raise ConfigError(f"reward 'choice': several is {self.several!r}; it must be 'zero' or 'share'.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = sample.answer.value
        if sample.answer.type != "choice":
            raise wrong_type(sample, "choice", "choice")
        answer = answer_text(completion, self.answer_tag)
        if answer is None:
            return unanswered(completion, "an option", self.answer_tag)
        if answer == gold:
            return _RIGHT
        named = named_options(answer, sample)
        if gold in named and (len(named) == 1 or self.several == "share"):
            return Score(value=1.0 / len(named), details={"answer": sorted(named)})
        if not named:
            return unanswered(completion, "one of the options", self.answer_tag)
        return Score(value=0.0, details={"answer": sorted(named)})

    def verify(self, sample: Sample) -> None:
        verify_letters(sample, [sample.answer.value])


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiChoice:
    """Several right options. With Y the right set and P the named one: |P| / |Y| where P ⊆ Y, else 0.

    One wrong option costs everything, so naming all of them does not pay. `partial=False` asks for P = Y.
    TW-GRPO, arXiv:2505.24718.
    """

    partial: bool = True
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        if sample.answer.type not in ("choices", "choice"):
            raise wrong_type(sample, "multi_choice", "choices, choice")
        gold = frozenset(sample.answer.value)
        answer = answer_text(completion, self.answer_tag)
        named = frozenset() if answer is None else listed_options(answer, sample)
        if not named or not named <= gold or (named != gold and not self.partial):
            return Score(value=0.0, details={"answer": sorted(named)})
        return Score(value=len(named) / len(gold), details={"answer": sorted(named)})

    def verify(self, sample: Sample) -> None:
        verify_letters(sample, sample.answer.value)


def listed_options(answer: str, sample: Sample) -> frozenset[str]:
    """`named_options`, and letters written without separators, "ACD"."""
    letters = letters_of(sample)
    if answer.isascii() and answer.isupper() and answer.isalpha() and len(answer) <= len(letters):
        return frozenset(answer) if set(answer) <= set(letters) else frozenset()
    return named_options(answer, sample)


def verify_letters(sample: Sample, gold: object) -> None:
    """Raise `RewardError` unless `gold` is a non-empty sequence of letters that the sample's options have."""
    letters = letters_of(sample)
    if len(sample.choices) > len(LETTERS):
        raise RewardError(f"sample {sample.id!r} has {len(sample.choices)} choices; letters reach to Z only.")
    for letter in gold if isinstance(gold, str | tuple | list) and gold else [gold]:
        if not isinstance(letter, str) or letter not in letters or len(letter) != 1:
            raise RewardError(
                f"sample {sample.id!r}: the answer {letter!r} is none of its option letters {letters[0]} to "
                f"{letters[-1]}. Mend the answer, or list the missing option texts in `choices`."
            )
