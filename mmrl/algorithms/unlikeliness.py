"""The unlikeliness reward: "Rewarding the unlikely". arXiv:2506.02355; as in the authors' code.

    r_i ← r_i · (1 − 0.25 · rank_i),   rank_i the rollout's place in its group by mean token log π_old, over G

Against GRPO: among correct rollouts the unlikely ones are paid more, against the narrowing of the policy. rank is 0 for
the least likely. β is 0.1 and ε 1e-6 there; two passes over each rollout batch. The code ranks by the *mean* token
log-probability; the paper speaks of the sequence's likelihood.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.advantage import GroupNormalized
from mmrl.credit.shaping import Unlikeliness
from mmrl.objective.divergence import K3

UNLIKELINESS = replace(
    GRPO,
    name="unlikeliness",
    title="GRPO with the unlikeliness reward",
    paper="2506.02355",
    summary="The likelier a rollout was in its group, the less its reward counts.",
    shaping=(Unlikeliness(coef=0.25),),
    advantage=GroupNormalized(eps=1e-6),
    divergence=K3(coef=0.1),
)
