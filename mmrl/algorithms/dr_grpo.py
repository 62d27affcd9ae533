"""Dr. GRPO ("GRPO done right"): arXiv:2503.20783 §3.2.

    A_i  = r_i − mean r                                                    no division by the spread
    loss = −(1/(N·L_max)) Σ_{i,t} min(ρ_t A_i, clip(ρ_t, 0.8, 1.2) A_i)      a constant, not each length

Removes GRPO's two biases: long wrong rollouts being punished less per token, and prompts of small spread weighing more.
There is no divergence. L_max is `rollout.max_tokens` (3000 in the paper).
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.advantage import GroupCentered
from mmrl.objective.aggregation import MaxLengthMean
from mmrl.objective.divergence import NoDivergence

DR_GRPO = replace(
    GRPO,
    name="dr_grpo",
    title="Dr. GRPO",
    paper="2503.20783",
    summary="No division by the spread, a constant length normaliser, no divergence.",
    advantage=GroupCentered(),
    aggregation=MaxLengthMean(),
    divergence=NoDivergence(),
    divergence_aggregation=MaxLengthMean(),
    reference=NoReference(),
)
