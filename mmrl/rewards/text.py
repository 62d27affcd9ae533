"""Free text: equal after normalisation, ROUGE, word error rate, edit distance."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mmrl.errors import RewardError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.normalize import folded, without_punctuation
from mmrl.rewards.reward import wrong_type
from mmrl.types import Completion, Sample, Score

_TOKEN = re.compile(r"[a-z0-9]+|[^\W\d_a-z]")  # a word, or one letter of another script
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def gold_text(sample: Sample, reward: str) -> str:
    if sample.answer.type not in ("text", "math"):
        raise wrong_type(sample, reward, "text, math")
    return str(sample.answer.value)


def verify_text(sample: Sample) -> None:
    if not isinstance(sample.answer.value, str) or not sample.answer.value.strip():
        raise RewardError(f"sample {sample.id!r}: the answer's text is empty; nothing can be compared with it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExact:
    """1 where answer and gold are the same text after normalisation, else 0.

    Always unified: compatibility characters and white space. By option: case, punctuation, English articles.
    """

    ignore_case: bool = True
    ignore_punctuation: bool = True
    ignore_articles: bool = False
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_text(sample, "text_exact")
        answer = answer_text(completion, self.answer_tag)
        if answer is None or len(answer) > 2 * len(gold) + 1000:
            return unanswered(completion, "short enough", self.answer_tag)
        return Score(value=float(self.normalized(answer) == self.normalized(gold) and bool(answer)))

    def normalized(self, text: str) -> str:
        made = folded(text) if self.ignore_case else " ".join(text.split())
        if self.ignore_punctuation:
            made = without_punctuation(made) or made
        if self.ignore_articles:
            made = " ".join(_ARTICLES.sub(" ", made).split()) or made
        return made

    def verify(self, sample: Sample) -> None:
        verify_text(sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rouge:
    """Mean of the F1 of ROUGE-1, ROUGE-2 and ROUGE-L, Porter-stemmed. arXiv:2503.21776 (code).

    Equals the `rouge-score` package where that is defined well. Departs from it so that the gold answer always scores
    1: ROUGE-2 does not enter where the gold has one word only, and letters outside a–z count as words of one letter.
    A longer answer than `longest` characters is none.
    """

    stem: bool = True
    longest: int = 6000
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_text(sample, "rouge")
        answer = answer_text(completion, self.answer_tag)
        if not answer or len(answer) > max(self.longest, len(gold)):
            return unanswered(completion, "short enough", self.answer_tag)
        target, said = self.tokens(gold), self.tokens(answer)
        if not target:  # a gold of nothing but punctuation
            return Score(value=float(answer == gold.strip()))
        parts = {"rouge1": _ngram_f1(target, said, 1), "rougeL": _longest_common_f1(target, said)}
        if len(target) > 1:
            parts["rouge2"] = _ngram_f1(target, said, 2)
        return Score(value=min(1.0, sum(parts.values()) / len(parts)), details=parts)

    def tokens(self, text: str) -> list[str]:
        words = _TOKEN.findall(folded(text))
        return [_stem(word) if len(word) > 3 else word for word in words] if self.stem else words

    def verify(self, sample: Sample) -> None:
        verify_text(sample)

    def prepare(self) -> None:
        _stem("prepared")
        _longest_common_f1(["a"], ["a"])


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrorRate:
    """max(0, 1 − WER), WER = word-level edit distance / number of gold words. arXiv:2503.21776 (code).

    Example: gold "open the red door", said "open a red doors now": distance 3, WER 0.75, value 0.25.
    """

    ignore_case: bool = False
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_text(sample, "wer")
        answer = answer_text(completion, self.answer_tag)
        if not answer:
            return unanswered(completion, "short enough", self.answer_tag)
        target = self.words(gold)
        # With more than twice the gold's words the distance exceeds their number, and the value is 0.
        said = self.words(answer[: 50 * len(gold) + 1000])
        if len(said) > 2 * len(target):
            return Score(value=0.0, details={"words": len(said)})
        distance = _edit_distance(target, said)
        return Score(value=max(0.0, 1.0 - distance / max(1, len(target))), details={"distance": distance})

    def words(self, text: str) -> list[str]:
        return (folded(text) if self.ignore_case else text).split()

    def verify(self, sample: Sample) -> None:
        verify_text(sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditDistance:
    """1 − d / max(length of gold, length of answer), d = character edit distance. ANLS where `threshold` is 0.5:
    a value below it is 0 (Scene Text VQA, arXiv:1905.13648).
    """

    ignore_case: bool = True
    threshold: float = 0.0
    answer_tag: str = "answer"

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_text(sample, "edit_distance")
        answer = answer_text(completion, self.answer_tag)
        if not answer or len(answer) > 20 * len(gold) + 1000:
            return unanswered(completion, "short enough", self.answer_tag)
        target = folded(gold) if self.ignore_case else gold.strip()
        said = folded(answer) if self.ignore_case else answer
        distance = _edit_distance(target, said)
        value = 1.0 - distance / max(1, len(target), len(said))
        return Score(value=value if value >= self.threshold else 0.0, details={"distance": distance})

    def verify(self, sample: Sample) -> None:
        verify_text(sample)


def _ngram_f1(target: Sequence[str], said: Sequence[str], n: int) -> float:
    wanted = Counter(zip(*(target[i:] for i in range(n)), strict=False))
    given = Counter(zip(*(said[i:] for i in range(n)), strict=False))
    return _f1((wanted & given).total(), wanted.total(), given.total())


def _longest_common_f1(target: Sequence[str], said: Sequence[str]) -> float:
    from rapidfuzz.distance import LCSseq

    return _f1(LCSseq.similarity(target, said), len(target), len(said))


def _f1(hits: float, wanted: int, given: int) -> float:
    return 2.0 * hits / (wanted + given) if hits else 0.0


def _edit_distance(target: Any, said: Any) -> int:
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(target, said))


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    stemmed: str = _stemmer().stem(word)
    return stemmed


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

    return PorterStemmer()
