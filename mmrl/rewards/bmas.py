"""Bidirectional max-average similarity of free text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mmrl.errors import ConfigError
from mmrl.rewards.answer import answer_text, unanswered
from mmrl.rewards.embeddings import hashed_vectors, model_vectors
from mmrl.rewards.text import gold_text, verify_text
from mmrl.types import Completion, Sample, Score

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def similarities(a: Float[np.ndarray, "A D"], b: Float[np.ndarray, "B D"]) -> tuple[float, float]:
    """(mean over a's rows of the largest cosine with b's, the same from b to a); rows are unit vectors.

    Example: a = [[1, 0], [.6, .8]], b = [[1, 0], [0, 1], [.8, .6]]: (0.98, 0.92).
    """
    table = a @ b.T  # [A, B]
    return float(table.max(axis=1).mean()), float(table.max(axis=0).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Bmas:
    """Mean (or harmonic mean) of the two directions of `similarities` between answer and gold, at least 0. Mixed-R1,
    arXiv:2505.24164; how the directions are joined there is not published in code, the mean is our reading.

    Tokens are words embedded by their letters (`model` empty), or a model's tokens with its input embeddings. An answer
    of more than `most` times the gold's tokens, plus 20, is worth 0: otherwise a wall of words holds every word.
    """

    combine: Literal["mean", "harmonic"] = "mean"
    model: str = ""  # a model folder in Hugging Face layout
    most: float = 4.0
    longest: int = 6000  # characters
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        if self.combine not in ("mean", "harmonic") or self.most < 1:
            raise ConfigError("reward 'bmas': combine must be 'mean' or 'harmonic', most at least 1.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        gold = gold_text(sample, "bmas")
        answer = answer_text(completion, self.answer_tag)
        if not answer or len(answer) > max(self.longest, len(gold)):
            return unanswered(completion, "short enough", self.answer_tag)
        target, said = self._vectors(gold), self._vectors(answer)
        if not len(target):  # a gold of nothing but punctuation
            return Score(value=float(answer == gold.strip()))
        if not len(said) or len(said) > self.most * len(target) + 20:
            return Score(value=0.0, details={"tokens": len(said)})
        forward, backward = (max(0.0, value) for value in similarities(said, target))
        if self.combine == "mean":
            value = (forward + backward) / 2.0
        else:
            value = 2.0 * forward * backward / (forward + backward) if forward + backward > 0 else 0.0
        return Score(value=min(1.0, value), details={"forward": forward, "backward": backward})

    def verify(self, sample: Sample) -> None:
        verify_text(sample)

    def prepare(self) -> None:
        self._vectors("prepared")

    def _vectors(self, text: str) -> Float[np.ndarray, "T D"]:
        return model_vectors(self.model)(text) if self.model else hashed_vectors(text)
