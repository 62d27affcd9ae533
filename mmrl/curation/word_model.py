"""What a linear model gets right by the words of questions and options alone, by cross-validation.

Rows of one picture, or of one question word for word, are never on both sides: otherwise the model would remember
instead of guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrl.curation.looks import joined
from mmrl.curation.media_index import wanted_of
from mmrl.curation.scan import mixed, number_of
from mmrl.types import LETTERS, Sample

FOLDS = 5
_FEATURES = 1 << 18


def right_option(sample: Sample) -> int:
    """The place of the right one, from 0."""
    return LETTERS.index(sample.answer.value)


def guess_options(samples: Sequence[Sample], seed: int) -> tuple[NDArray[np.bool_], float]:
    """(whether the guess is right, a sample; the share that the best constant letter or a constant option gets)."""
    texts = [[_pair(sample.question, choice) for choice in sample.choices] for sample in samples]
    owner = np.repeat(np.arange(len(samples)), [len(options) for options in texts])
    place = np.concatenate([np.arange(len(options)) for options in texts])
    right = np.array([right_option(sample) for sample in samples])
    target = place == right[owner]
    features = _features([pair for options in texts for pair in options])
    fold = _folds(samples, seed)
    score = np.zeros(len(owner))
    for number in range(FOLDS):
        held = fold[owner] == number
        if held.any() and target[~held].any():
            model = _model(seed).fit(features[~held], target[~held])
            score[held] = model.decision_function(features[held])
    best = np.full(len(samples), -np.inf)
    np.maximum.at(best, owner, score)
    hits = np.zeros(len(samples), dtype=bool)
    ties = np.bincount(owner, weights=score >= best[owner])
    np.logical_or.at(hits, owner, target & (score >= best[owner]) & (ties[owner] == 1))
    letters = np.bincount(right).max() / len(samples)
    constant = Counter(sample.choices[right_option(sample)] for sample in samples).most_common(1)[0][1] / len(samples)
    chance = float(np.mean([1 / len(sample.choices) for sample in samples]))
    return hits, max(letters, constant, chance)


def _pair(question: str, choice: str) -> str:
    words = question.split()
    own = choice.split()
    paired = [f"{word}×{other}" for word in words for other in own] if len(words) * len(own) <= 400 else []
    return " ".join([*(f"°{other}" for other in own), f"°whole:{'_'.join(own)}", *paired])


def guess_labels(samples: Sequence[Sample], labels: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Whether the label that the words of the question suggest is the right one, a sample."""
    features = _features([sample.question for sample in samples])
    target = np.array(labels)
    fold = _folds(samples, seed)
    hits = np.zeros(len(samples), dtype=bool)
    for number in range(FOLDS):
        held = fold == number
        if held.any() and len(set(target[~held].tolist())) > 1:
            hits[held] = _model(seed).fit(features[~held], target[~held]).predict(features[held]) == target[held]
    return hits


def _features(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=_FEATURES, ngram_range=(1, 2), token_pattern=r"\S+", alternate_sign=False
    ).transform(texts)


def _model(seed: int) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=20, tol=None, random_state=seed, average=True)


def _folds(samples: Sequence[Sample], seed: int) -> NDArray[np.int64]:
    """Samples that share a picture, or a whole question with options, are in one fold."""
    pairs = []
    first: dict[str, int] = {}
    for row, sample in enumerate(samples):
        asked = "\0".join((*sample.question.split(), *sorted(sample.choices))) if sample.media == () else sample.id
        for name in (*(path for path, _ in wanted_of(sample.media)), f"?{asked}"):
            pairs.append((first.setdefault(name, row), row))
    unit = joined(np.array(pairs), len(samples))
    names = np.array([number_of(sample.id) for sample in samples], dtype=np.uint64)
    _, head, inverse = np.unique(unit, return_index=True, return_inverse=True)
    order = np.argsort(mixed(names[head], seed), kind="stable")
    fold = np.empty(len(head), dtype=np.int64)
    fold[order] = np.arange(len(head)) % FOLDS
    return fold[inverse]
