"""Completions as the tokens they were sampled in, coloured by a number per token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrl.traces.record import TraceGroup, TraceRollout

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ADVANTAGE, LOGPROB = "advantage", "log-probability"
_STREAMS = {  # of the trace → of the page
    "entropy": "entropy",
    "kl": "KL",
    "token_weight": "token weight",
    "correction": "engine correction",
}
COLOURS = ("", ADVANTAGE, *_STREAMS.values(), LOGPROB)
_SIGNED = (ADVANTAGE,)
_SHOWN_TOKENS = 4000  # of one completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One token on the page."""

    text: str
    title: str  # its value, in words
    style: str  # its ground


class Tokens:
    """The run's tokenizer, found when it is first needed."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir

    def split(self, token_ids: Sequence[int], text: str) -> list[str] | None:
        """The completion's text cut where its tokens end; None where the run left no tokenizer.

        A character that several tokens make stands with the last of them. Joined, the pieces are the text with special
        tokens spelled out.
        """
        path = next((p for p in self._candidates() if p.is_file()), None)
        if path is None:
            return None
        return _split(_tokenizer(path, path.stat().st_mtime_ns), token_ids)

    def _candidates(self) -> list[Path]:
        newest = sorted(self._run_dir.glob("checkpoints/step_*/tokenizer.json"), reverse=True)
        return [*newest, *(self._run_dir / part / "tokenizer.json" for part in ("cold_start", "model"))]


@lru_cache(maxsize=4)
def _tokenizer(path: Path, stamp: int) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def _split(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[str]:
    pieces: list[str] = []
    pending: list[int] = []  # tokens that make no whole character yet
    context: list[int] = []  # the tokens before, which some tokenizers need for the space in front
    for token in token_ids:
        pending.append(token)
        before = tokenizer.decode(context, skip_special_tokens=False)
        text = tokenizer.decode([*context, *pending], skip_special_tokens=False)[len(before) :]
        if text.endswith("�") and len(pending) < 8:
            pieces.append("")
            continue
        pieces.append(text)
        context, pending = [*context, *pending][-4:], []
        if tokenizer.decode(context, skip_special_tokens=False).startswith("�"):
            context = context[-1:]
    return pieces


def values(group: TraceGroup, rollout: TraceRollout, colour: str) -> Sequence[float] | None:
    """The number per token that is asked for; None where the trace has none."""
    count = len(rollout.rollout.token_ids)
    if colour == ADVANTAGE:
        per_token = rollout.streams.get("token_advantage")
        if per_token is not None:
            return per_token
        return None if rollout.advantage is None else [rollout.advantage] * count
    if colour == LOGPROB:
        return rollout.rollout.policy_logprobs
    for stream, name in _STREAMS.items():
        if colour == name:
            weights = [1.0] * count if stream == "token_weight" and rollout.advantage is not None else None
            return rollout.streams.get(stream, weights)
    return None


def scale(groups: Sequence[Sequence[float] | None]) -> float:
    """The largest size of the numbers of a group, which gets the full colour."""
    sizes = [abs(value) for numbers in groups for value in numbers or () if math.isfinite(value)]
    return max(sizes, default=0.0) or 1.0


def coloured(pieces: Sequence[str], numbers: Sequence[float], colour: str, largest: float) -> list[Piece]:
    """Pieces with the ground that their numbers give them."""
    shown = []
    for text, number in list(zip(pieces, numbers, strict=False))[:_SHOWN_TOKENS]:
        shown.append(Piece(text=text, title=f"{text!r}: {colour} {number:.4g}", style=_ground(number, largest, colour)))
    return shown


def legend(colour: str, largest: float) -> dict[str, Any]:
    """How to read the colours."""
    signed = colour in _SIGNED
    return {
        "name": colour,
        "low": f"{-largest:.3g}" if signed else "0",
        "high": f"{-largest if colour == LOGPROB else largest:.3g}",
        "style": "background: linear-gradient(90deg, {}, {}, {})".format(
            *(_colour(share if not signed else share * 2 - 1, colour) for share in (0.0, 0.5, 1.0))
        ),
    }


def _ground(number: float, largest: float, colour: str) -> str:
    if not math.isfinite(number):
        return ""
    return f"background: {_colour(max(-1.0, min(1.0, number / largest)), colour)}"


def _colour(share: float, colour: str) -> str:
    red_green_blue = "26, 120, 220" if colour in _SIGNED and share >= 0 else "232, 120, 30"
    return f"rgba({red_green_blue}, {0.75 * abs(share):.2f})"
