"""Where prompts and branches lie in packed rows: what the attention kernels need to know of a batch, and no more.

Token q may attend to token k when both are of the same part, k comes no later, and k is of the prompt or of q's own
branch. `Layout` states this rule three ways: as lists of positions (split attention), as two tables (block masks), and
as a dense mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

PADDING = -1
PROMPT = 0  # in `branch_of`; branch i is i + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualPrompts:
    """The parts whose prompts are equally long, P tokens; N is the most branch tokens one of them has."""

    prompts: Int[Tensor, "b P"]  # flat positions in [R·L]
    branches: Int[Tensor, "b N"]  # of all branches of the part, one after the other; 0 where `mask` is False
    mask: Bool[Tensor, "b N"]

    def to(self, device: torch.device) -> EqualPrompts:
        return _moved(self, device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """R rows of L positions."""

    alike: tuple[EqualPrompts, ...]
    part_of: Int[Tensor, "R L"]  # number of the part in its row; PADDING where there is none
    branch_of: Int[Tensor, "R L"]  # PROMPT, 1 + number of the branch in its part, or PADDING
    own: Int[Tensor, "B C"]  # flat positions in [R·L] of every branch's tokens; 0 beyond its length
    own_mask: Bool[Tensor, "B C"]

    @property
    def rows(self) -> int:
        return self.part_of.shape[0]

    @property
    def length(self) -> int:
        return self.part_of.shape[1]

    @property
    def prompts_alone(self) -> bool:
        """Every row is one prompt without branches: plain causal attention will do."""
        return not len(self.own) and not (self.part_of > 0).any()

    def dense_mask(self) -> Bool[Tensor, "R 1 L L"]:
        """The rule of this module's docstring. Padding attends to itself only: a row of no keys would be NaN."""
        same_part = self.part_of[:, :, None] == self.part_of[:, None, :]
        everywhere = torch.ones(self.length, self.length, dtype=torch.bool, device=self.part_of.device)
        shared = self.branch_of[:, None, :] == PROMPT
        same_branch = self.branch_of[:, :, None] == self.branch_of[:, None, :]
        real = (self.part_of != PADDING)[:, :, None]
        allowed = same_part & everywhere.tril() & (shared | same_branch) & real
        return (allowed | torch.eye(self.length, dtype=torch.bool, device=allowed.device)).unsqueeze(1)

    def to(self, device: torch.device) -> Layout:
        """The same layout on another device."""
        return replace(_moved(self, device), alike=tuple(parts.to(device) for parts in self.alike))


def lay_out(rows: Sequence[Sequence[tuple[int, Sequence[int]]]]) -> Layout:
    """The layout of rows of parts, each given as (prompt length, lengths of its branches), one after the other."""
    length = max(sum(prompt + sum(branches) for prompt, branches in row) for row in rows)
    part_of = torch.full((len(rows), length), PADDING, dtype=torch.long)
    branch_of = torch.full((len(rows), length), PADDING, dtype=torch.long)
    alike: dict[int, list[tuple[int, int]]] = {}  # prompt length → (flat position of the prompt, branch tokens)
    own: list[tuple[int, int]] = []  # flat position and length of every branch
    for r, row in enumerate(rows):
        at = 0
        for number, (prompt, branches) in enumerate(row):
            alike.setdefault(prompt, []).append((r * length + at, sum(branches)))
            start, at = at, at + prompt
            branch_of[r, start:at] = PROMPT
            for i, count in enumerate(branches):
                branch_of[r, at : at + count] = i + 1
                own.append((r * length + at, count))
                at += count
            part_of[r, start:at] = number
    own_places, own_mask = _ranges(own)
    return Layout(
        alike=tuple(_equal_prompts(prompt, parts) for prompt, parts in alike.items()),
        part_of=part_of,
        branch_of=branch_of,
        own=own_places,
        own_mask=own_mask,
    )


def _equal_prompts(prompt: int, parts: Sequence[tuple[int, int]]) -> EqualPrompts:
    prompts, _ = _ranges([(start, prompt) for start, _ in parts])
    branches, mask = _ranges([(start + prompt, count) for start, count in parts])
    return EqualPrompts(prompts=prompts, branches=branches, mask=mask)


def _ranges(runs: Sequence[tuple[int, int]]) -> tuple[Int[Tensor, "n m"], Bool[Tensor, "n m"]]:
    """The positions of n runs, given as (first, length), padded with 0 to the longest; and where there is one."""
    first = torch.tensor([run[0] for run in runs], dtype=torch.long)
    counts = torch.tensor([run[1] for run in runs], dtype=torch.long)
    steps = torch.arange(int(counts.max()) if runs else 0)
    mask = steps[None, :] < counts[:, None]
    return torch.where(mask, first[:, None] + steps, 0), mask


T = TypeVar("T", EqualPrompts, Layout)


def _moved(value: T, device: torch.device) -> T:
    tensors = {f.name: getattr(value, f.name) for f in fields(value)}
    moved: dict[str, Any] = {name: t.to(device) for name, t in tensors.items() if isinstance(t, Tensor)}
    return replace(value, **moved)
