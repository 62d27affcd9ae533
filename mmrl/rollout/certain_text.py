"""The text of a completion while it is being written, as far as the next token cannot change it any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from mmrl.types import RolloutGroup


class CertainText:
    """Tells of each rollout of a group what became certain of its text. End tokens are no text."""

    def __init__(
        self, tokenizer: Any, *, end: Collection[int], group_size: int, on_text: Callable[[int, str], None]
    ) -> None:
        self._tokenizer = tokenizer
        self._end = frozenset(end)
        self._on_text = on_text
        self._shown = [0] * group_size

    def show(self, index: int, ids: Sequence[int]) -> None:
        """`ids`: all tokens of a rollout so far."""
        text: str = self._tokenizer.decode([i for i in ids if i not in self._end])
        first = self._shown[index]
        if not text.endswith("\ufffd"):  # a character whose bytes are not all there yet
            self._shown[index] = len(text)
        self._on_text(index, text[first : self._shown[index]])

    def finish(self, group: RolloutGroup) -> None:
        """What is left of the texts: a completion may end within a character."""
        for rollout in group.rollouts:
            rest = rollout.completion.text[self._shown[rollout.index] :]
            if rest:
                self._on_text(rollout.index, rest)
