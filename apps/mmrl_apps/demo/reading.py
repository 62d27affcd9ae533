"""What a completion says: reasoning and answer told apart, also while it is being written."""

from __future__ import annotations

from dataclasses import dataclass

from mmrl.rewards.answer import REASONING_TAGS, find_answer, reasoning_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A completion, or as much of it as there is."""

    reasoning: str
    answer: str
    note: str = ""  # what is wrong with its form; empty: nothing, or it is not finished


def parts(text: str, tag: str, *, finished: bool) -> Parts:
    """Reasoning and answer of a completion in the form whose answer tag is `tag` (empty: all of it is the answer)."""
    if not tag:
        return Parts(reasoning="", answer=text.strip())
    found = find_answer(text, tag)
    if found.text is not None:
        return Parts(
            reasoning=reasoning_text(text, tag),
            answer=found.text,
            note=f"This counts as no answer: {found.malformed}." if found.malformed else "",
        )
    note = f"There is no complete <{tag}>…</{tag}> block." if finished else ""
    before, opened, after = (text if finished else _without_open_end(text)).partition(f"<{tag}>")
    return Parts(reasoning=reasoning_text(before, tag), answer=after.strip() if opened else "", note=note)


def _without_open_end(text: str) -> str:
    """Without a tag that has begun at the end: it is not to flash up in the reasoning."""
    last = text.rfind("<")
    rest = text[last:] if last >= 0 else ""
    tags = [f"<{slash}{name}>" for name in (*REASONING_TAGS, "answer") for slash in ("", "/")]
    return text[:last] if rest and any(tag.startswith(rest) and tag != rest for tag in tags) else text
