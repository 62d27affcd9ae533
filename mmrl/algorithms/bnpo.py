"""BNPO: Beta-normalised policy optimisation. arXiv:2506.02864; as in the authors' code.

    A_i = (r_i − p) / Beta(p; α, β),   p the group's pass rate, α and β fitted to the step's pass rates

Against GRPO: the spread that rewards are divided by adapts to the step. α = β = 1 gives centred rewards, α = β = 3/2
GRPO's division by √(p(1 − p)). Not the loss type of that name in TRL, which is a token mean. Rewards outside [0, 1] are
mapped there. Where the fit does not exist, as with one group or equal pass rates, α = β = 1.

Clip 0.2 is GRPO's; no divergence is our choice, as is the token mean.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.beta_normalized import BetaNormalized
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence

BNPO = replace(
    GRPO,
    name="bnpo",
    title="BNPO",
    paper="2506.02864",
    summary="Centred rewards over the density of a Beta distribution fitted to the step's pass rates.",
    advantage=BetaNormalized(),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
