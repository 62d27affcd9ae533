"""Lite PPO: two tricks that are enough. "Part I: Tricks or Traps?", arXiv:2508.08221.

    A_i  = (r_i − mean of the group) / (std of all rewards of the step + 1e-4)
    loss = −(1/Σ|o_i|) Σ_{i,t} min(ρ_t A_i, clip(ρ_t, 0.8, 1.2) A_i)

Against GRPO: the spread is the whole step's, so that an easy group's small spread is not blown up, and tokens weigh
alike. ε and the absence of a divergence are our choice.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.advantage import BatchScaled
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence

LITE_PPO = replace(
    GRPO,
    name="lite_ppo",
    title="Lite PPO",
    paper="2508.08221",
    summary="The group's mean but the step's spread, and every token weighs the same; no divergence.",
    advantage=BatchScaled(eps=1e-4),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
