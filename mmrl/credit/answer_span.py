"""Which tokens of a completion hold the answer, whatever the tokenizer does to the tags.

Tokenizers cut "<answer>B</answer>" in many ways: `<` `answer` `>` `B` `</` …, `<answer>` whole, or `>B` in one piece.
The span is therefore found on characters and carried to every token that holds one of them.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mmrl.types import RolloutGroup

OUTSIDE, TAG_END, ANSWER = 0, 1, 2  # a token holds nothing of it · only the end of the opening tag · some of the answer

_OPEN, _CLOSE = "<answer>", "</answer>"


def answer_span(token_ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """For each token OUTSIDE, TAG_END or ANSWER: the content of the last complete <answer> block.

    `decode` gives the text of a beginning of the completion, special tokens included, nothing cleaned up. A completion
    without a complete, non-empty block, one cut inside its answer for example, is OUTSIDE throughout.
    """
    out = [OUTSIDE] * len(token_ids)
    text = decode(token_ids)
    close = text.rfind(_CLOSE)
    opened = text.rfind(_OPEN, 0, close) if close >= 0 else -1
    first, end = opened + len(_OPEN), close
    if opened < 0 or first == end:
        return out

    def holder(place: int) -> int:
        """The token that holds character `place`: the first whose end lies beyond it. O(log T) decodings."""
        return bisect.bisect_right(range(len(token_ids)), place, key=lambda i: len(decode(token_ids[: i + 1])))

    begin, last = holder(first), holder(end - 1)
    for i in range(begin, last + 1):
        out[i] = ANSWER
    tag_end = holder(first - 1)
    if out[tag_end] == OUTSIDE:
        out[tag_end] = TAG_END
    return out


def answer_spans(groups: Sequence[RolloutGroup], decode: Callable[[Sequence[int]], str]) -> Int[Tensor, "N T"]:
    """`answer_span` of every rollout; OUTSIDE beyond its end."""
    rows = [answer_span(rollout.token_ids, decode) for group in groups for rollout in group.rollouts]
    out = torch.full((len(rows), max(len(row) for row in rows)), OUTSIDE, dtype=torch.long)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out
