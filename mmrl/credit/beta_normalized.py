"""BNPO's advantage: centred rewards over the density of a Beta distribution fitted to the step's pass rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, RewardTable
from mmrl.credit.part import StepContext
from mmrl.tensors import group_deviation, group_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaNormalized:
    """A_i = (r_i − p) · min(1 / Beta(p; α, β), most), p the group's mean reward. BNPO, arXiv:2506.02864.

    Over the step's groups m = mean p, v = var p (n − 1); a = (m(1 − m)/v − 1)·m, b = (m(1 − m)/v − 1)·(1 − m);
    α = max(1, 1 + a/3), β = max(1, 1 + b/3). α = β = 1 is the centred reward, α = β = 3/2 proportional to GRPO's.

    Rewards must be in [0, 1]; others are first mapped there by (r − lowest)/(highest − lowest) over the step. Where
    the fit does not exist (one group, or equal pass rates) α = β = 1: the authors' code divides by 0 there.
    """

    most: float = 1e6
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]:
        rewards = table.total
        low, high = min(0.0, float(rewards.min())), max(1.0, float(rewards.max()))
        rewards = (rewards - low) / (high - low)
        rates = group_mean(rewards, table.group, table.groups).double()
        alpha, beta = fitted_beta(rates)
        normaliser = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta)
        inverse = (normaliser - torch.xlogy(alpha - 1, rates) - torch.xlogy(beta - 1, 1 - rates)).exp()
        scale = inverse.clamp(max=self.most)[table.group].to(rewards.dtype)
        return group_deviation(rewards, table.group, table.groups) * scale


def fitted_beta(rates: Float[Tensor, " K"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(α, β) by the paper's moments; (1, 1) where the pass rates have no spread."""
    one = torch.ones((), dtype=rates.dtype)
    if len(rates) < 2 or float(rates.var()) < 1e-12:
        return one, one
    mean, variance = rates.mean(), rates.var()
    size = mean * (1 - mean) / variance - 1
    return torch.maximum(one, 1 + size * mean / 3), torch.maximum(one, 1 + size * (1 - mean) / 3)
