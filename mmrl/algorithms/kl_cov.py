"""KL-Cov: the tokens that would collapse the entropy are held near the old policy. arXiv:2505.22617; authors' recipe.

    loss = (1/Σ|o_i|) Σ [ −ρ_t A_i + 1[t among the 2e-3 of highest cov_t] · |log π_t − log π_old,t| ]

Against GRPO: no clip at all; the tokens of highest covariance (see Clip-Cov) are penalised for moving. The penalty is 0
in a step's first update, so `train.minibatches` must be above 1 for it to act. 2e-3 is the 7B recipe's, 2e-4 the 32B's.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.token_weight import HighestCovariance
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.regularizer import DistanceToOld
from mmrl.objective.surrogate import Unclipped

KL_COV = replace(
    GRPO,
    name="kl_cov",
    title="KL-Cov",
    paper="2505.22617",
    summary="No clip; the tokens of highest covariance between advantage and likelihood are held near the old policy.",
    regularizer_weight=(HighestCovariance(fraction=2e-3),),
    surrogate=Unclipped(),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    regularizers=(DistanceToOld(coef=1.0),),
    reference=NoReference(),
)
