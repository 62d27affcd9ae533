"""Reg-GRPO: the advantage as a regression target. DeepVideo-R1, arXiv:2506.07464.

    ρ_i  = log π(o_i) − log π_old(o_i),   Â_i = (ρ_i − mean ρ) / (std ρ + eps)   within the group
    loss = (1/N) Σ_i (A_i − Â_i)² + β · k3

Against GRPO: no ratio times advantage and no clip; the policy is fitted so that its log-ratios, normalised in the
group, *are* the advantages. Â depends on all rollouts of the group under the current policy, so each update begins with
a pass over them. Reconstructed from the paper's definitions (its displayed equations were lost to us).

In a step's first update all ρ are 0 and the fit is steep, 1/eps: the gradient's direction is a policy gradient's, its
size is what `train.max_grad_norm` makes of it. eps 1e-4 is our choice; β = 0.1 is the paper's for
SEED-Bench-R1, with groups of 8. Its second half, hints for hard samples and noise for easy ones, is not part of this
entry: the factors by which both grow are not given.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.objective.coupling import AdvantageRegression
from mmrl.objective.divergence import K3
from mmrl.objective.surrogate import NoSurrogate

REG_GRPO = replace(
    GRPO,
    name="reg_grpo",
    title="Reg-GRPO",
    paper="2506.07464",
    summary="Fits the group-normalised log-ratios to the advantages instead of weighing tokens by them.",
    surrogate=NoSurrogate(),
    divergence=K3(coef=0.1),
    couplings=(AdvantageRegression(eps=1e-4),),
)
