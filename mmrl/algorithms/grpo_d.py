"""GRPO-D: a dynamic weight of the divergence. OThink-MR1, arXiv:2503.16081 v2 eq. 1–5.

    β(s) = (0.04 + 0.1)/2 at s = 0, falls to 0.04 at s = 0.3·t, rises to 0.1 at s = t        t: the run's steps

Against GRPO: β follows the step. The paper's prose says that it starts small and grows; its formula, implemented here,
is a V (`schedule: linear_up` is the prose). 0.04 and 0.1 are the paper's for its counting task; its geometry task has 0
and 0.02. Whether the formula or the prose was run is not known.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.group_weight import ScheduledWeight
from mmrl.objective.divergence import K3

GRPO_D = replace(
    GRPO,
    name="grpo_d",
    title="GRPO-D",
    paper="2503.16081",
    summary="The divergence's coefficient follows the step: explore first, hold on later.",
    divergence_weight=(ScheduledWeight(low=0.04, high=0.1, exploration=0.3),),
    divergence=K3(coef=1.0),
)
