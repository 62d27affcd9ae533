"""What the form holds → a question that can be asked. Whatever a browser sends is checked here, sliders or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmrl.errors import ConfigError
from mmrl.rollout.engine import Sampling
from mmrl.types import Answer, AnswerType, Media, Sample

LONGEST_QUESTION = 4000  # characters
MOST_OPTIONS = 26
MOST_SAMPLES = 16
MOST_TOKENS = 4096
LARGEST_SEED = 2**31 - 1
FRAMES = (2, 64)

# What is asked for → the type of answer that words the instruction and says how the answer is read and drawn.
KINDS: dict[str, AnswerType] = {
    "Free text": "text",
    "One of the options": "choice",
    "Several of the options": "choices",
    "A number": "number",
    "A formula": "math",
    "A box": "box",
    "Boxes": "boxes",
    "A point": "point",
    "A span of time": "span",
    "Spans of time": "spans",
}
NAMES = {kind: name for name, kind in KINDS.items()}
_PLACEHOLDERS = {  # the answer is what is being asked: only its type is used
    "choice": "A", "choices": ("A",), "number": 0.0, "box": (0, 0, 1, 1), "boxes": ((0, 0, 1, 1),), "point": (0, 0),
    "span": (0, 1), "spans": ((0, 1),),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The controls' values as they came."""

    question: str
    kind: str = "Free text"  # a key of KINDS
    options: str = ""  # one a line
    samples: float = 1  # completions, k
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: float = 0
    max_tokens: float = 256
    seed: float = 0
    frames: float = 16  # of a clip, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the models are asked."""

    sample: Sample
    sampling: Sampling
    seed: int  # the same question with the same seed gives the same completions
    has_gold: bool  # whether the sample's answer is known, or stands in for one


def question_of(form: Form, media: Sequence[Media], *, example: Sample | None = None) -> Question:
    """The question about these media. ConfigError says which control is wrong and what it may be.

    `example`: the sample the form was filled from; its answer is the gold one while question and media are its own.
    """
    if not isinstance(form.question, str) or not isinstance(form.options, str) or not isinstance(form.kind, str):
        raise ConfigError("The question must be text, and so must the options.")  # a browser can send anything
    text = form.question.strip()
    if not text:
        raise ConfigError("There is no question yet: write one, or choose an example.")
    if len(text) > LONGEST_QUESTION:
        raise ConfigError(f"The question has {len(text):,} characters; {LONGEST_QUESTION:,} are the most.")
    if form.kind not in KINDS:
        raise ConfigError(f"Unknown kind of answer {form.kind!r}. Known: {', '.join(KINDS)}.")
    kind = KINDS[form.kind]
    options = _options(form.options) if kind in ("choice", "choices") else ()
    if kind in ("choice", "choices") and len(options) < 2:
        raise ConfigError(f"“{form.kind}” needs at least two options, one a line.")
    if kind in ("box", "boxes", "point") and not media:
        raise ConfigError(f"“{form.kind}” can only be given about a picture: add one.")
    frames = _whole(form.frames, "Frames of a clip", *FRAMES)
    media = tuple(replace(item, max_frames=frames) if item.type == "video" else item for item in media)
    gold = _gold(example, text, kind, options, media)
    sample = Sample(
        id="question",
        task=example.task if gold is not None and example is not None else "question",
        question=text,
        media=media,
        choices=options,
        answer=gold or Answer(type=kind, value=_PLACEHOLDERS.get(kind, "")),
    )
    samples = _whole(form.samples, "Samples", 1, MOST_SAMPLES)
    temperature = _number(form.temperature, "Temperature", 0.0, 5.0)
    if samples > 1 and temperature == 0:
        raise ConfigError(
            f"{samples} samples at temperature 0 would all be the same: raise the temperature, or ask for one."
        )
    top_p = _number(form.top_p, "Top-p", 0.0, 1.0)
    if top_p == 0:
        raise ConfigError("Top-p must be above 0; 1 keeps all tokens.")
    return Question(
        sample=sample,
        sampling=Sampling(
            group_size=samples,
            max_tokens=_whole(form.max_tokens, "Longest completion", 1, MOST_TOKENS),
            temperature=temperature,
            top_p=top_p,
            top_k=_whole(form.top_k, "Top-k", 0, 1_000_000),
            purpose="generate",
        ),
        seed=_whole(form.seed, "Seed", 0, LARGEST_SEED),
        has_gold=gold is not None,
    )


def _options(text: str) -> tuple[str, ...]:
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(lines) > MOST_OPTIONS or len(text) > LONGEST_QUESTION:
        raise ConfigError(f"There are too many options, or too long ones; {MOST_OPTIONS} lines are the most.")
    return lines


def _gold(
    example: Sample | None, text: str, kind: str, options: tuple[str, ...], media: Sequence[Media]
) -> Answer | None:
    if example is None:
        return None
    shown = [(item.type, item.path, item.paths) for item in media]
    same = (
        example.question.strip() == text
        and example.answer.type == kind
        and tuple(choice.strip() for choice in example.choices) == options
        and [(item.type, item.path, item.paths) for item in example.media] == shown
    )
    return example.answer if same else None


def _number(value: float, name: str, least: float, most: float) -> float:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or not least <= value <= most:
        raise ConfigError(f"{name} must be a number from {least:g} to {most:g}.")
    return float(value)


def _whole(value: float, name: str, least: int, most: int) -> int:
    number = _number(value, name, least, most)
    if number != int(number):
        raise ConfigError(f"{name} must be a whole number from {least} to {most}.")
    return int(number)
