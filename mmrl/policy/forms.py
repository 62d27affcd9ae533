"""The forms an answer can be asked in: what the prompt says, and how a target is written for the cold start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmrl.errors import DataError
from mmrl.policy.coordinates import located_text
from mmrl.types import MediaView, Sample

Mode = Literal["think_answer", "answer", "think", "observe", "vanilla"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One prompt mode."""

    instruction: str  # closes the question
    target: str  # a completion in this form, with {thought} and {answer}
    tags: tuple[str, ...]  # what the `format` reward should ask for, in order; empty: there is no form to keep
    answer_tag: str = "answer"  # where rewards and evaluation find the answer; empty: all of the completion


FORMS: dict[Mode, Form] = {
    "think_answer": Form(
        instruction="Think inside <think></think>, then give {what} inside <answer></answer>.",
        target="<think>{thought}</think><answer>{answer}</answer>",
        tags=("think", "answer"),
    ),
    "answer": Form(
        instruction="Give {what} inside <answer></answer>.", target="<answer>{answer}</answer>", tags=("answer",)
    ),
    # The three of vsGRPO, arXiv:2504.00883 §4.1, in words of our own.
    "think": Form(
        instruction=("Think about it step by step inside <think></think>. Then give {brief} inside <answer></answer>."),
        target="<think>{thought}</think><answer>{answer}</answer>",
        tags=("think", "answer"),
    ),
    "observe": Form(
        instruction=(
            "Observe what is shown and note what helps to answer inside <observe></observe>. "
            "Then give {brief} inside <answer></answer>."
        ),
        target="<observe>{thought}</observe><answer>{answer}</answer>",
        tags=("observe", "answer"),
    ),
    "vanilla": Form(instruction="Reply with {brief} and nothing else.", target="{answer}", tags=(), answer_tag=""),
}

# What is asked for, by answer type.
_ASKED = {
    "choice": "the letter",
    "choices": "the letters, separated by commas,",
    "number": "the number",
    "text": "a short answer",
    "math": "the result",
    "box": "the box as [x1, y1, x2, y2]",
    "boxes": "the boxes as a list of [x1, y1, x2, y2]",
    "point": "the point as [x, y]",
    "span": "the seconds as start, end",
    "spans": "the spans as a list of [start, end] in seconds",
}


# The same for forms that ask for few words.
_BRIEF = _ASKED | {"text": "an answer of one or two words", "math": "the result alone"}


def question_text(sample: Sample, mode: Mode) -> str:
    """The question, its options by letter, and what form the answer takes."""
    kind = sample.answer.type
    lines = [sample.question]
    if sample.choices:
        lines.append("Options:")
        lines.extend(f"{letter}. {choice}" for letter, choice in zip(sample.letters, sample.choices, strict=True))
    lines.append(FORMS[mode].instruction.format(what=_ASKED[kind], brief=_BRIEF[kind]))
    return "\n".join(lines)


def target_text(sample: Sample, mode: Mode, thought: str, views: Sequence[MediaView] = ()) -> str:
    """The completion a cold start imitates. `{answer}` in `thought` becomes the answer in words.

    `views`: the prompt's. Boxes and points are written in the coordinates the model speaks, and DataError is raised for
    them where it is not known what it was shown.
    """
    words = in_words(sample, views)
    written = str(sample.answer.value) if sample.answer.type == "choice" else words
    return FORMS[mode].target.format(thought=thought.replace("{answer}", words), answer=written)


def in_words(sample: Sample, views: Sequence[MediaView] = ()) -> str:
    """The answer as a sentence names it: the option's text of a choice, else what stands in the answer tags.

    `views`, and errors: as for `target_text`.
    """
    answer = sample.answer
    if answer.type == "choice":
        return sample.option(answer.value)
    if answer.type in ("text", "math"):
        return str(answer.value)
    if answer.type == "choices":
        return ", ".join(answer.value)
    if answer.type == "number":
        return f"{answer.value:g}"
    if answer.type == "span":
        return f"{answer.value[0]:g}, {answer.value[1]:g}"
    if answer.type == "spans":
        return f"[{', '.join(f'[{start:g}, {end:g}]' for start, end in answer.value)}]"
    if views:
        return located_text(answer, views)
    raise DataError(
        f"sample {sample.id!r}: an answer of type {answer.type!r} cannot be written as a target: its sample shows "
        "no picture, and its form depends on the model's coordinates. Give it one, or leave it out."
    )
