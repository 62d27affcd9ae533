"""TW-GRPO: token-weighted GRPO. arXiv:2505.24718; as in the authors' code.

    k_t  = mean_i Σ_v [e^D − D − 1],   D = mean_j log P_j(v at t) − log P_i(v at t)      over the group's rollouts
    w_t  = 1 + 0.7 · (k_t − min k)/(max k − min k)
    loss = −(1/Σ|o_i|) Σ_{i,t} w_t · min(ρ_t A_i, clip(ρ_t, 0.8, 1.28) A_i)

Against GRPO: positions at which the group's rollouts expect different tokens weigh up to 1.7 times as much; tokens
weigh alike otherwise; a higher upper clip; no divergence. Positions are counted from the start of each completion, not
aligned by content, and a rollout that has ended counts as a uniform distribution. The weights are those of the policy
at the step's start and carry no gradient.

All values are the authors' script's. Their reward is partial credit for several-choice questions (reward
`multi_choice`) and form.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.token_weight import DisagreementWeight
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import Clipped

TW_GRPO = replace(
    GRPO,
    name="tw_grpo",
    title="TW-GRPO",
    paper="2505.24718",
    summary="Positions at which the group's rollouts expect different tokens weigh more; no divergence.",
    token_weights=(DisagreementWeight(alpha=1.7),),
    surrogate=Clipped(clip_low=0.2, clip_high=0.28),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
