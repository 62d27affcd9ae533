"""GRPO with dual clip. arXiv:1912.09729 eq. 5; constant 3 as in verl and EasyR1.

    for A < 0:   objective = max(min(ρA, clip(ρ, 0.8, 1.2)A), 3A)

Against GRPO: a wrong token whose ratio ran away no longer gives an unbounded loss. Acts only with several updates per
rollout batch. Everything else is GRPO.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.objective.surrogate import DualClipped

DUAL_CLIP = replace(
    GRPO,
    name="dual_clip",
    title="GRPO with dual clip",
    paper="1912.09729",
    summary="The loss of a negative advantage is bounded however far the ratio runs.",
    surrogate=DualClipped(clip_low=0.2, clip_high=0.2, most=3.0),
)
