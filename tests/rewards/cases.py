"""One or more samples for every catalogue entry: what the contract tests run over."""

from __future__ import annotations

from mmrl.rewards.catalog import REWARDS
from mmrl.types import AnswerType, Sample
from tests.rewards.world import sample

ANIMALS = ("a cat", "a dog", "a red fox", "the moon")

SAMPLES: dict[AnswerType, list[Sample]] = {
    "choice": [
        sample("choice", "B", choices=ANIMALS),
        sample("choice", "H", choices=tuple("0123456789")),
        sample("choice", "J"),
        sample("choice", "A", choices=("yes", "no")),
    ],
    "choices": [sample("choices", ("A", "C"), choices=ANIMALS), sample("choices", ("D", "B", "A"), choices=ANIMALS)],
    "number": [
        sample("number", 4.0),
        sample("number", 0.0),
        sample("number", -3.25),
        sample("number", 12.5, unit="%"),
        sample("number", 350.0, unit="cm"),
        sample("number", 1e22),
        sample("number", 1.5e-7),
    ],
    "text": [
        sample("text", "the man opens the door"),
        sample("text", "14"),
        sample("text", "左边的狗"),
        sample("text", "Q"),
    ],
    "math": [sample("math", "3\\sqrt{2}"), sample("math", "\\frac{1}{2}"), sample("math", "42")],
    "box": [
        sample("box", (10.0, 20.0, 110.0, 70.0)),
        sample("box", (0.1, 0.2, 0.35, 0.9), space="unit"),
        sample("box", (100, 200, 300, 900), space="norm1000"),
    ],
    "boxes": [
        sample("boxes", ((0.0, 0.0, 10.0, 8.0), (21.0, 21.0, 31.0, 31.0)), metadata={"labels": ["cat", "dog"]}),
        sample("boxes", ()),
    ],
    "point": [sample("point", (120.0, 210.5))],
    "span": [sample("span", (4.0, 10.0)), sample("span", (62.25, 75.0))],
    "spans": [sample("spans", ((1.0, 2.0), (5.0, 9.5)))],
}

# Entries that cannot score every sample of an answer type, with what they need.
ONLY: dict[str, list[Sample]] = {
    "count_boxes": [SAMPLES["boxes"][0]],
    "point_in_box": [*SAMPLES["box"], sample("boxes", ((5.0, 5.0, 9.0, 9.0),))],
    "ordering": [SAMPLES["choices"][1], sample("text", "cup, book, lamp")],
}


def samples_for(name: str) -> list[Sample]:
    """Samples that this catalogue entry can score, and for which `gold_answer` is an answer of its kind."""
    answers = REWARDS[name].answers or tuple(SAMPLES)
    return ONLY.get(name) or [s for answer in answers for s in SAMPLES[answer]]
