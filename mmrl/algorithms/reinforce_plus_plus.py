"""REINFORCE++: arXiv:2501.03262; as in verl.

    reward_t = −coef · (log π_old − log π_ref), plus r_i at the last token;   R_t = Σ_{k ≥ t} reward_k
    A_t      = (R_t − mean) / √(var + 1e-8)                                  over all tokens of the step
    loss     = −(1/Σ|o_i|) Σ min(ρ_t A_t, clip(ρ_t, 0.8, 1.2) A_t)

Against GRPO: no group at all. The baseline is the step's mean over tokens, the divergence is paid per token, and tokens
of one rollout differ in their advantage. The divergence's coefficient in the paper is unconfirmed: 0.01 is our choice.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.absolute import RewardItself
from mmrl.credit.token_advantage import PenalizedReturns
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence

REINFORCE_PLUS_PLUS = replace(
    GRPO,
    name="reinforce_plus_plus",
    title="REINFORCE++",
    paper="2501.03262",
    summary="No group baseline: returns with the divergence paid per token, whitened over all tokens of the step.",
    advantage=RewardItself(),
    token_advantage=PenalizedReturns(coef=0.01),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
)
