"""Packing: many completions of one prompt in one row, the prompt computed once.

A *branch* is one completion. A *part* is a group's prompt with some of its branches; a group too large for the token
budget becomes several parts that each repeat the prompt. A packed row holds one part or several:

    [prompt | branch 1 | branch 2 | … ] [prompt | branch 1 | … ] [padding]

Who may attend to whom is said in `layout.py`. A branch's positions continue from the prompt's end as if it were alone.
Its last token is left out of the row: it would predict nothing. The first token of every branch is predicted by the
prompt's last hidden state.

The idea is the shared prefix of Prefix Grouper (arXiv:2506.05433), here with multimodal positions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmrl.errors import DataError
from mmrl.policy.family import Family
from mmrl.policy.layout import Layout, lay_out
from mmrl.types import Prompt, RolloutGroup, VisionItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some branches of one prompt. `rows[i]` says which rollout of the step branch i is."""

    prompt: Prompt
    branches: tuple[tuple[int, ...], ...]  # token ids per completion
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Length in a packed row."""
        return len(self.prompt.token_ids) + sum(len(b) - 1 for b in self.branches)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """Everything a policy needs to compute the log-probabilities of B completions of T tokens at most."""

    token_ids: Int[Tensor, "R L"]
    positions: Int[Tensor, "3 R L"]
    layout: Layout  # who may attend to whom
    media: tuple[VisionItem, ...]  # the distinct ones, each once: pixels are referred to, not copied
    feature_slots: Int[Tensor, " K"]  # flat positions in [R·L] that hold a visual token, ascending …
    feature_index: Int[Tensor, " K"]  # … and which of the media's features belongs there
    predictors: Int[Tensor, "B T"]  # flat position in [R·L] whose hidden state predicts the token
    targets: Int[Tensor, "B T"]  # token ids of the completions
    mask: Bool[Tensor, "B T"]  # True where there is a token
    rows: Int[Tensor, " B"]  # which rollout of the step each completion is

    @property
    def tokens(self) -> int:
        """Positions the language model computes, padding included."""
        return self.token_ids.numel()

    def to(self, device: torch.device) -> PackedBatch:
        """The same batch on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: t.to(device) for name, t in tensors.items() if isinstance(t, Tensor)}
        return replace(self, **moved, layout=self.layout.to(device))


def split_groups(groups: Sequence[RolloutGroup], token_budget: int, *, most_branches: int = sys.maxsize) -> list[Part]:
    """Parts of at most `token_budget` tokens (a prompt with a single branch may exceed it: it cannot be split).

    `most_branches` 1 is the repeated layout: every completion with its own copy of the prompt.
    """
    parts, row = [], 0
    for group in groups:
        room = token_budget - len(group.prompt.token_ids)
        branches: list[tuple[int, ...]] = []
        rows: list[int] = []
        used = 0
        for rollout in group.rollouts:
            cost = len(rollout.token_ids) - 1
            if branches and (used + cost > room or len(branches) == most_branches):
                parts.append(Part(prompt=group.prompt, branches=tuple(branches), rows=tuple(rows)))
                branches, rows, used = [], [], 0
            branches.append(rollout.token_ids)
            rows.append(row)
            used += cost
            row += 1
        parts.append(Part(prompt=group.prompt, branches=tuple(branches), rows=tuple(rows)))
    return parts


def micro_batches(parts: Sequence[Part], token_budget: int) -> list[list[Part]]:
    """Parts in order, as many to a micro-batch as the budget allows; at least one."""
    batches: list[list[Part]] = []
    used = 0
    for part in parts:
        if not batches or used + part.tokens > token_budget:
            batches.append([])
            used = 0
        batches[-1].append(part)
        used += part.tokens
    return batches


def pack(parts: Sequence[Part], family: Family, config: Any, *, pad_id: int) -> PackedBatch:
    """Lay the parts out in rows no longer than the longest part; short ones share a row where the family packs."""
    bins = first_fit(parts) if family.packs else [[part] for part in parts]
    return pack_rows(bins, family, config, pad_id=pad_id)


def pack_rows(bins: Sequence[Sequence[Part]], family: Family, config: Any, *, pad_id: int) -> PackedBatch:
    """Lay out the parts of each given row. Parts without branches are prompts alone (prefilling)."""
    length = max(sum(part.tokens for part in row) for row in bins)
    token_ids = torch.full((len(bins), length), pad_id, dtype=torch.long)
    positions = torch.zeros(3, len(bins), length, dtype=torch.long)
    branches = [branch for row in bins for part in row for branch in part.branches]
    width = max((len(b) for b in branches), default=0)
    predictors = torch.zeros(len(branches), width, dtype=torch.long)
    targets = torch.full((len(branches), width), pad_id, dtype=torch.long)
    mask = torch.zeros(len(branches), width, dtype=torch.bool)
    media = _Media()

    b = 0
    for r, row in enumerate(bins):
        at = 0
        for part in row:
            prompt = part.prompt
            size = len(prompt.token_ids)
            token_ids[r, at : at + size] = torch.tensor(prompt.token_ids)
            prompt_positions = family.prompt_positions(prompt, config)
            positions[:, r, at : at + size] = prompt_positions
            following = int(prompt_positions.max()) + 1
            media.place(prompt, r * length + at, family.merge_size(config))
            last = r * length + at + size - 1
            at += size
            for branch in part.branches:
                count = len(branch)
                token_ids[r, at : at + count - 1] = torch.tensor(branch[:-1])
                positions[:, r, at : at + count - 1] = torch.arange(following, following + count - 1)
                predictors[b, 0] = last
                predictors[b, 1:count] = torch.arange(r * length + at, r * length + at + count - 1)
                targets[b, :count] = torch.tensor(branch)
                mask[b, :count] = True
                at += count - 1
                b += 1
    return PackedBatch(
        token_ids=token_ids,
        positions=positions,
        layout=lay_out(
            [[(len(part.prompt.token_ids), [len(b) - 1 for b in part.branches]) for part in row] for row in bins]
        ),
        media=tuple(media.distinct),
        feature_slots=torch.tensor(media.slots, dtype=torch.long),
        feature_index=torch.tensor(media.index, dtype=torch.long),
        predictors=predictors,
        targets=targets,
        mask=mask,
        rows=torch.tensor([i for row in bins for part in row for i in part.rows], dtype=torch.long),
    )


class _Media:
    """Collects distinct pictures and clips: each once, however many parts show it."""

    def __init__(self) -> None:
        self.distinct: list[VisionItem] = []
        self.slots: list[int] = []
        self.index: list[int] = []
        self._first_feature: dict[str, int] = {}  # digest → its first feature
        self._features = 0

    def place(self, prompt: Prompt, offset: int, merge: int) -> None:
        """Enter the media of a prompt whose first token is at flat position `offset`."""
        if prompt.vision is None:
            return
        for item in prompt.vision.items():
            count = visual_tokens(item.grid, merge)
            if item.digest not in self._first_feature:
                self._first_feature[item.digest] = self._features
                self._features += count
                self.distinct.append(item)
            first = self._first_feature[item.digest]
            self.index.extend(range(first, first + count))
        for first, stop in prompt.media_slots:
            self.slots.extend(range(offset + first, offset + stop))
        if len(self.slots) != len(self.index):
            raise DataError(
                f"sample {prompt.sample.id!r}: its prompt and those before it have {len(self.slots)} places for visual "
                f"tokens, its media {len(self.index)} features. The prompt was not made by this model's renderer."
            )


def visual_tokens(grid: tuple[int, int, int], merge: int) -> int:
    """How many features the tower makes of a picture or clip: merge² patches become one."""
    t, h, w = grid
    return t * h * w // merge**2


def first_fit(parts: Sequence[Part]) -> list[list[Part]]:
    """First-fit decreasing: rows as long as the longest part, each as full as that greedy rule makes it."""
    capacity = max(part.tokens for part in parts)
    bins: list[list[Part]] = []
    room: list[int] = []
    for part in sorted(parts, key=lambda p: -p.tokens):
        for i, free in enumerate(room):
            if part.tokens <= free:
                bins[i].append(part)
                room[i] -= part.tokens
                break
        else:
            bins.append([part])
            room.append(capacity - part.tokens)
    return bins
