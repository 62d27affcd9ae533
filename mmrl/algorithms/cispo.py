"""CISPO: clipped importance-sampling weights. MiniMax-M1, arXiv:2506.13585.

    loss = −(1/Σ|o_i|) Σ_{i,t} sg[clip(ρ_t, 1 − clip_low, 1 + clip_high)] · A_i · log π_t

Against GRPO: no token ever loses its gradient, only its weight is bounded, which keeps rare tokens of large ratio in
play. `clip_low: 1` (no lower bound) and `clip_high: 4` (a ratio of at most 5) are our choice: the paper's upper bound
is not known to us. TRL's `epsilon_high` is the bound itself, 1 + clip_high here.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import CappedWeight

CISPO = replace(
    GRPO,
    name="cispo",
    title="CISPO",
    paper="2506.13585",
    summary="REINFORCE with a bounded ratio as a constant weight: no token loses its gradient.",
    surrogate=CappedWeight(clip_low=1.0, clip_high=4.0),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
