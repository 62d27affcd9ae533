"""GRPO: group-relative policy optimisation. DeepSeekMath, arXiv:2402.03300 eq. 3 and 4.

    A_i  = (r_i − mean r) / (std r + 1e-4)                              within the G rollouts of a prompt
    loss = −(1/N) Σ_i (1/|o_i|) Σ_t min(ρ_t A_i, clip(ρ_t, 0.8, 1.2) A_i) + 0.04 · the same mean of k3(π ‖ π_ref)

Every variant here is GRPO with some slots replaced. `eps` 1e-4 and the sample standard deviation (G − 1) are what TRL
and the R1-V family compute; β = 0.04 and clip 0.2 are the paper's.
"""

from mmrl.algorithms.algorithm import Algorithm
from mmrl.algorithms.reference import FrozenReference
from mmrl.credit.advantage import GroupNormalized
from mmrl.credit.token_advantage import PerRollout
from mmrl.objective.aggregation import SequenceMean
from mmrl.objective.divergence import K3
from mmrl.objective.ratio import TokenRatio
from mmrl.objective.surrogate import Clipped

GRPO = Algorithm(
    name="grpo",
    title="GRPO",
    paper="2402.03300",
    summary="The baseline: rewards normalised within the group, clipped token ratios, k3 divergence to the start.",
    advantage=GroupNormalized(eps=1e-4),
    token_advantage=PerRollout(),
    ratio=TokenRatio(),
    surrogate=Clipped(clip_low=0.2, clip_high=0.2),
    aggregation=SequenceMean(),
    divergence=K3(coef=0.04),
    divergence_aggregation=SequenceMean(),
    reference=FrozenReference(),
)
