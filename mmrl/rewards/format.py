"""Is the completion in the asked form?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mmrl.errors import ConfigError
from mmrl.types import Completion, Sample, Score

_RIGHT = Score(value=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """1 where each of `tags` encloses something, in this order, exactly once; else 0, and the details say why.

    - strict: nothing but white space outside the blocks. Unlike the published full match `<think>.*?</think>\\s*
      <answer>.*?</answer>` (arXiv:2503.21776 and its relatives), a repeated or nested tag fails.
    - lenient: text before the first and after the last block is allowed (arXiv:2506.21655, which pays 0.5 for it: give
      it weight 0.5).

    Forms: `[think, answer]` (default), `[observe, answer]`, `[answer]`, or any tags of your own.
    """

    tags: tuple[str, ...] = ("think", "answer")
    mode: Literal["strict", "lenient"] = "strict"

    def __post_init__(self) -> None:
        if not self.tags or len(set(self.tags)) != len(self.tags):
            raise ConfigError(f"reward 'format': tags are {list(self.tags)}; give one or more, all different.")
        for tag in self.tags:
            if not tag.isidentifier():
                raise ConfigError(f"reward 'format': {tag!r} is no tag name; write letters only, without < and >.")
        if self.mode not in ("strict", "lenient"):
            raise ConfigError(f"reward 'format': mode is {self.mode!r}; it must be 'strict' or 'lenient'.")

    def __call__(self, completion: Completion, sample: Sample) -> Score:
        reason = self.fault(completion.text)
        return Score(value=0.0, details={"fault": reason}) if reason else _RIGHT

    def fault(self, text: str) -> str:
        """What is wrong with the form of `text`; empty: nothing."""
        position = 0
        for number, tag in enumerate(self.tags):
            opening, closing = f"<{tag}>", f"</{tag}>"
            start, end = text.find(opening), text.find(closing)
            if start < 0 or end < 0:
                return f"no complete <{tag}> block"
            if text.find(opening, start + 1) >= 0 or text.find(closing, end + 1) >= 0:
                return f"<{tag}> repeated"
            if start < position:
                return f"<{tag}> out of order"
            between_allowed = number == 0 and self.mode == "lenient"
            if not between_allowed and not _blank(text, position, start):
                return f"text before <{tag}>"
            content = start + len(opening)
            if end < content or _blank(text, content, end):
                return f"<{tag}> is empty"
            position = end + len(closing)
        if self.mode == "strict" and not _blank(text, position, len(text)):
            return f"text after </{self.tags[-1]}>"
        return ""


def _blank(text: str, start: int, end: int) -> bool:
    return start >= end or text[start:end].isspace()
