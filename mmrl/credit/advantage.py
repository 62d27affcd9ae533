"""Advantage estimators: reward table → [N]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.tensors import group_deviation, group_std


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNormalized:
    """A_i = (r_i − mean) / (std + eps) within the group, std with G − 1.

    GRPO, arXiv:2402.03300 eq. 2 (outcome supervision). `eps` is 1e-4 in TRL and the R1-V family, 1e-6 in verl. A group
    whose rewards are all equal, or of one rollout, gets 0.
    """

    eps: float = 1e-4
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]:
        deviation = group_deviation(table.total, table.group, table.groups)
        std = group_std(table.total, table.group, table.groups)
        return deviation / (std[table.group] + self.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCentered:
    """A_i = r_i − mean of the group; no division by the spread. Dr. GRPO, arXiv:2503.20783 §3.2."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]:
        return group_deviation(table.total, table.group, table.groups)
