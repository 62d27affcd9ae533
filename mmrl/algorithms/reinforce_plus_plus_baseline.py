"""REINFORCE++-baseline: arXiv:2501.03262; as in verl.

    A_t  = whitened (r_i − mean r of the group), over all tokens of the step
    loss = −(1/Σ|o_i|) Σ min(ρ_t A_t, clip(ρ_t, 0.8, 1.2) A_t)

Against REINFORCE++: the group's mean is subtracted first, and no divergence is paid. Against GRPO: the spread is that
of the whole step, over tokens, so that a group of nearly equal rewards is not blown up. A divergence beside the
surrogate is a choice of the run: `divergence: {type: k2, coef: …}, reference: frozen`.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.advantage import GroupCentered
from mmrl.credit.token_advantage import Whitened
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence

REINFORCE_PLUS_PLUS_BASELINE = replace(
    GRPO,
    name="reinforce_plus_plus_baseline",
    title="REINFORCE++-baseline",
    paper="2501.03262",
    summary="Group-centred rewards, whitened over all tokens of the step; no divergence.",
    advantage=GroupCentered(),
    token_advantage=Whitened(),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
