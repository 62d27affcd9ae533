"""The one extractor: what the policy's answer is. Rewards, evaluation, traces and apps all ask here.

The rule. The answer is the content of the **last complete** `<answer>…</answer>` block, stripped. A completion is
**malformed** when its answer tags are repeated or nested (in each other, or in the reasoning): the block is still
reported, for display, but it counts as no answer, so that saying several things never pays. An opened block that was
not closed is no block.

    "<think>it curls</think><answer> B </answer>"       → "B"
    "<answer>A</answer> or <answer>B</answer>"          → "B", malformed: repeated
    "<think><answer>B</answer></think>"                 → "B", malformed: inside the reasoning
    "the answer is B", "<answer>B"                      → nothing

Departs from published code on purpose (first block: arXiv:2503.21776; whole completion where there is no block:
arXiv:2504.07615), because each of those can be won without answering.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmrl.types import Completion, Score

REASONING_TAGS = ("think", "observe")
_TAG_ENDS = tuple(f"{tag}>" for tag in REASONING_TAGS)  # of opening and closing tags alike


@dataclass(frozen=True, slots=True)
class AnswerBlock:
    """What was found in a completion."""

    text: str | None  # content of the last complete block, stripped; None: there is no complete block
    malformed: str = ""  # why the block counts as no answer; empty: it counts

    @property
    def valid(self) -> str | None:
        """The answer, or None where there is none that counts."""
        return None if self.malformed else self.text


def find_answer(text: str, tag: str = "answer") -> AnswerBlock:
    """The last complete answer block of `text`, and whether it counts. Linear in the length of the text.

    `tag` names another tag; the empty tag means that the whole text is the answer.
    """
    if not tag:
        return AnswerBlock(text.strip())
    opening, closing = f"<{tag}>", f"</{tag}>"
    start, end = text.find(opening), text.find(closing)
    if 0 <= start < end and text.rfind(opening) == start and text.rfind(closing) == end:
        for tag_end in _TAG_ENDS:
            if text.find(tag_end, start + len(opening)) >= 0:
                break
        else:
            return AnswerBlock(text[start + len(opening) : end].strip())  # the usual case, recognised cheaply
    return _examined(text, opening, closing, tag)


def _examined(text: str, opening: str, closing: str, tag: str) -> AnswerBlock:
    last = text.rfind(closing)
    start = text.rfind(opening, 0, last) if last >= 0 else -1
    if start < 0:
        return AnswerBlock(None)
    end = text.find(closing, start)
    content = text[start + len(opening) : end]
    if end != last or text.find(closing) != end or text.find(opening) != start or text.find(opening, end) >= 0:
        return AnswerBlock(content.strip(), "answer tags repeated or nested")
    for reasoning in REASONING_TAGS:
        if reasoning != tag and _inside(text, start, end, reasoning):
            return AnswerBlock(content.strip(), "answer and reasoning tags nested")
    return AnswerBlock(content.strip())


def answer_text(completion: Completion, tag: str = "answer") -> str | None:
    """The answer of a completion; None where there is none that counts."""
    return find_answer(completion.text, tag).valid


def unanswered(completion: Completion, wanted: str, tag: str = "answer", *, value: float = 0.0) -> Score:
    """The score of a completion that has no answer of the kind that is `wanted` ("one box"); the details say why."""
    found = find_answer(completion.text, tag)
    if found.text is None:
        why = f"no complete <{tag}> block"
    elif found.malformed or not found.text:
        why = found.malformed or "the answer is empty"
    else:
        why = f"the answer is not {wanted}"
    return Score(value=value, details={"fault": why})


def reasoning_text(text: str, tag: str = "answer") -> str:
    """What comes before the last complete answer block (all of the text where there is none), without its tags."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
    before = text if start < 0 else text[:start]
    for reasoning in REASONING_TAGS:
        before = before.replace(f"<{reasoning}>", " ").replace(f"</{reasoning}>", " ")
    return before.strip()


def outside_answer(text: str, tag: str = "answer") -> str:
    """Everything but the last complete answer block."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
    return text if start < 0 else text[:start] + " " + text[end + len(tag) + 3 :]


def _inside(text: str, start: int, end: int, tag: str) -> bool:
    """Whether the block [start, end) overlaps a block of `tag`: holds such a tag, or stands before its closing tag."""
    closing = text.find(f"</{tag}>", start)
    opening = text.find(f"<{tag}>", start)
    if opening >= 0 and opening < end:
        return True
    return closing >= 0 and (closing < end or opening < 0 or closing < opening)
