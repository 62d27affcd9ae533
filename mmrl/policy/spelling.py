"""How the text of a prompt shows a picture or a clip: what the chat template wrote becomes runs of visual tokens.

The Qwen2 families write one run per item. A family that writes more, such as the time before each frame, has a `spell`
of its own (`Family.spell`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownItem:
    """One picture or clip as the model is shown it."""

    kind: Literal["image", "video"]
    placeholder: str  # the token that stands for one visual token of this kind
    grid: tuple[int, int, int]  # patches: (time, height, width)
    merge: int  # side of the square of patches that becomes one visual token
    frames: tuple[int, ...] = ()  # clip: numbers of the frames that are shown
    frame_rate: float = 0.0  # clip: frames per second of the file (of listed frames: the rate they were taken at)

    @property
    def tokens(self) -> int:
        """Visual tokens of the whole item."""
        time, height, width = self.grid
        return time * height * width // self.merge**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """What an item becomes in the rendered chat."""

    replaces: str  # the piece of the chat template's text that stands for the item
    text: str  # what is written instead, with `placeholder` once per run
    runs: tuple[int, ...]  # visual tokens of each run, in order


def spell_whole(item: ShownItem) -> Spelling:
    """One run where the placeholder stands. Qwen2-VL (arXiv:2409.12191), Qwen2.5-VL (arXiv:2502.13923)."""
    return Spelling(replaces=item.placeholder, text=item.placeholder, runs=(item.tokens,))
