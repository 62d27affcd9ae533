"""Advantage estimators against a baseline made of the group or the step: reward table → [N]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.tensors import group_deviation, group_size, group_std


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNormalized:
    """A_i = (r_i − mean) / (std + eps) within the group, std with G − 1.

    GRPO, arXiv:2402.03300 eq. 2 (outcome supervision). `eps` is 1e-4 in TRL and the R1-V family, 1e-6 in verl. A group
    whose rewards are all equal, or of one rollout, gets 0.
    """

    eps: float = 1e-4
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        deviation = group_deviation(table.total, table.group, table.groups)
        std = group_std(table.total, table.group, table.groups)
        return deviation / (std[table.group] + self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCentered:
    """A_i = r_i − mean of the group; no division by the spread. Dr. GRPO, arXiv:2503.20783 §3.2."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        return group_deviation(table.total, table.group, table.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOut:
    """A_i = r_i − mean of the *other* rewards of the group = G/(G − 1) · (r_i − mean). RLOO, arXiv:2402.14740.

    A group of one gets 0.
    """

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        size = group_size(table.group, table.groups)[table.group]
        return group_deviation(table.total, table.group, table.groups) * size / (size - 1).clamp(min=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchScaled:
    """A_i = (r_i − mean of the group) / (std of all rewards of the step + eps), std with N − 1.

    Lite PPO, arXiv:2508.08221; TRL's `scale_rewards = "batch"`. `eps` as in GRPO.
    """

    eps: float = 1e-4
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        one_group = torch.zeros_like(table.group)
        std = group_std(table.total, one_group, 1)
        return group_deviation(table.total, table.group, table.groups) / (std + self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualBest:
    """GRPO's advantage with `count` imagined rollouts of reward `best` in the mean and the deviation.

    NGRPO, arXiv:2509.18851: an all-wrong group then gets a negative advantage instead of none. The imagined rollouts
    are not trained. `best`, `count` and `eps` are the authors' code's.
    """

    best: float = 1.0
    count: int = 1
    eps: float = 1e-6
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    separates_equal_rewards: ClassVar[bool] = True  # equal rewards below `best` are all worse than the imagined one

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        imagined = torch.arange(table.groups).repeat_interleave(self.count)
        total = torch.cat([table.total, torch.full((len(imagined),), self.best)])
        group = torch.cat([table.group, imagined])
        deviation = group_deviation(total, group, table.groups)[: len(table.total)]
        return deviation / (group_std(total, group, table.groups)[table.group] + self.eps)
