"""Multimodal rotary positions: text on a line, media on grids. Qwen2-VL, arXiv:2409.12191 §2.1.

Each token has three positions (time, height, width). Text advances all three together. A run of visual tokens spans a
grid that starts where the text before it ended. What follows a run starts at the maximum of all its positions + 1, as
in the models' original code and in vLLM; transformers 5 starts it at the run's first position + max(height, width)
instead, which for a long video lies inside the video's own time axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive visual tokens of one grid, in the order time, height, width."""

    first: int  # index of its first token
    times: tuple[int, ...]  # the time position of each grid time, counted from the run's start
    height: int  # of the grid, in tokens
    width: int

    @property
    def stop(self) -> int:
        """Index of the first token after it."""
        return self.first + len(self.times) * self.height * self.width


def grid_positions(length: int, runs: Sequence[Run]) -> Int[Tensor, "3 P"]:
    """Positions of a prompt of `length` tokens with these runs, in order."""
    positions = torch.empty(3, length, dtype=torch.long)
    at, following = 0, 0  # next token, next position
    for run in runs:
        start = following + run.first - at
        positions[:, at : run.first] = torch.arange(following, start)
        axes = (torch.tensor(run.times), torch.arange(run.height), torch.arange(run.width))
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1) + start
        positions[:, run.first : run.stop] = grid
        following = int(grid.max()) + 1
        at = run.stop
    positions[:, at:] = torch.arange(following, following + length - at)
    return positions
