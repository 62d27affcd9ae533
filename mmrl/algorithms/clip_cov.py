"""Clip-Cov: a few tokens that would collapse the entropy are left out. arXiv:2505.22617; as in the authors' recipe.

    cov_t = (A_t − mean A)(log π_t − mean log π);   2e-4 of the tokens, drawn among 1 < cov_t < 5, get weight 0
    loss  = −(1/Σ|o_i|) Σ w_t · min(ρ_t A_i, clip(ρ_t, 0, 2) A_i)

Against GRPO: tokens whose probability and advantage rise together drive the entropy down; a few of them are left out.
The clip is wide (1 and 1) and there is no divergence. The covariance is that of the policy at the step's start, over
the step; the authors recompute it per micro-batch.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.token_weight import ClipCovariance
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import Clipped

CLIP_COV = replace(
    GRPO,
    name="clip_cov",
    title="Clip-Cov",
    paper="2505.22617",
    summary="A few tokens of high covariance between advantage and likelihood carry no gradient.",
    token_weights=(ClipCovariance(fraction=2e-4, low=1.0, high=5.0),),
    surrogate=Clipped(clip_low=1.0, clip_high=1.0),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
