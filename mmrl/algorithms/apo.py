"""APO: asymmetric policy optimisation (View-R1). arXiv:2506.21655; as in the authors' code.

    A_i  = (r_i − mean r) / (std r + 1e-9);  wrong and longer than the group's correct rollouts: A_i ← A_i (1 + ω_i)
    loss = −(1/Σ|o_i|) Σ_{i,t} min(ρ_t A_i, clip(ρ_t, 0.8, 1.2) A_i)  +  0.001 · (1/N) Σ_i W_i · mean_t k3_{i,t}
    ω_i  = 1 − 1.00001^{−(L_i − L̄)},  L̄ the mean length of the group's correct rollouts                         (STCR)
    W_i  = 1 − e^{−e·(1 − d)} where A_i > 0 (1 for d = 0 and d = 1), else 1;  d the share of wrong rollouts      (DADS)

Against GRPO: STCR presses long wrong rollouts, DADS frees the successes of hard prompts from the divergence, the
surrogate weighs tokens alike and the divergence rollouts alike, and β is 1e-3. "Positive" means *correct* for STCR and
d, but *A > 0* for DADS: see `credit/asymmetric.py`, which also offers a guard for either (`only_negative`,
`only_correct`), off as released.

All values are those of the authors' script. It makes 16 optimiser steps per rollout batch: set `train.minibatches`
above 1, or the clip never acts. The authors average over micro-batches of two rollouts; here over the whole update.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.advantage import GroupNormalized
from mmrl.credit.asymmetric import DifficultyAwareWeight, SuboptimalTrajectoryComplexity
from mmrl.objective.aggregation import SequenceMean, TokenMean
from mmrl.objective.divergence import K3

APO = replace(
    GRPO,
    name="apo",
    title="APO",
    paper="2506.21655",
    summary="Long wrong rollouts are pressed harder, successes on hard prompts are freed from the divergence.",
    advantage=GroupNormalized(eps=1e-9),
    reweight=(SuboptimalTrajectoryComplexity(base=1.00001),),
    divergence_weight=(DifficultyAwareWeight(),),
    aggregation=TokenMean(),
    divergence=K3(coef=1e-3),
    divergence_aggregation=SequenceMean(),
)
