"""Things in the right order: "C, A, B" or "cup, book, lamp"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError, RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.normalize import plain
from mmrl.rewards.options import letters_of
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

_BETWEEN = re.compile(r"\s*(?:,|;|\n|->|→|=>|>|<|\bthen\b|\band\b|\bor\b)\s*")
_BULLET = re.compile(r"^(?:\(?\d{1,3}[.):]|[-*•])\s*")
MOST_ITEMS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """How much of the gold order the answer keeps. The gold is a list of letters (`choices`), in order, or a text of
    items between commas.

    - tau: max(0, (concordant − discordant) / all pairs), Kendall's τ cut at 0: a reversed order and, on average, a
      random one are worth nothing. Pairs with an item that the answer lacks count as neither.
    - exact: 1 where the order is the gold's, else 0.

    An answer that repeats an item, or names one that does not belong, is worth 0.
    """

    metric: Literal["tau", "exact"] = "tau"
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.metric not in ("tau", "exact"):
            raise ConfigError(f"reward 'ordering': metric is {self.metric!r}; it must be 'tau' or 'exact'.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = _gold_items(sample)
        answer = answer_text(completion, self.answer_tag)
        if not answer or len(answer) > 2 * sum(map(len, gold)) + 1000:
            return unanswered(completion, "short enough", self.answer_tag)
        said = read_order(answer, sample)
        places = {item: place for place, item in enumerate(gold)}
        if len(set(said)) < len(said) or any(item not in places for item in said):
            return Score(value=0.0, details={"answer": said[:MOST_ITEMS]})
        if self.metric == "exact" or len(gold) == 1:
            return Score(value=float(said == gold), details={"answer": said})
        return Score(value=max(0.0, _tau([places[item] for item in said], len(gold))), details={"answer": said})

    def verify(self, sample: Sample) -> None:
        gold = _gold_items(sample)
        if not gold or len(set(gold)) < len(gold) or len(gold) > MOST_ITEMS:
            raise RewardError(
                f"sample {sample.id!r}: reward 'ordering' needs 1 to {MOST_ITEMS} different items in order, not {gold}."
            )


def read_order(answer: str, sample: Sample) -> list[str]:
    """The items that an answer lists, in its order, in lower case: letters where the sample's answer is of letters."""
    said = _items(answer)
    return _letters(said, letters_of(sample)) if sample.answer.type == "choices" else said


def _tau(places: list[int], total: int) -> float:
    """(concordant − discordant) / all pairs of `total` items, of the gold places in the order they were said."""
    balance = sum(1 if places[i] < places[j] else -1 for i in range(len(places)) for j in range(i + 1, len(places)))
    return balance / (total * (total - 1) / 2)


def _gold_items(sample: Sample) -> list[str]:
    if sample.answer.type == "choices":
        return [letter.lower() for letter in sample.answer.value]
    if sample.answer.type != "text":
        raise wrong_type(sample, "ordering", "choices, text")
    return _items(str(sample.answer.value))


def _items(text: str) -> list[str]:
    bare = text.strip().strip("[](){}")
    parts = [plain(_BULLET.sub("", part.strip())) for part in _BETWEEN.split(bare)]
    return [part for part in parts if part]


def _letters(items: list[str], letters: str) -> list[str]:
    """ "(A)" and "A. cup" as "a"; "acb" as three letters."""
    if len(items) == 1 and items[0].isalpha() and set(items[0].upper()) <= set(letters):
        return list(items[0])
    return [item[0] if re.match(r"[a-z](?![a-z0-9])", item) else item for item in items]
