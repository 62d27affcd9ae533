"""RLOO: REINFORCE with a leave-one-out baseline. arXiv:2402.14740; sequence ratio and clip as in TRL.

    r_i  ← r_i − 0.05 · Σ_t (log π_old − log π_ref)
    A_i  = r_i − mean of the group's other rewards
    loss = −(1/N) Σ_i min(ρ_i A_i, clip(ρ_i, 0.8, 1.2) A_i),   ρ_i = π(o_i)/π_old(o_i), the whole sequence's

Against GRPO: no division by the spread, a baseline that leaves the rollout itself out, the divergence inside the reward
(as policy gradient sees it) and not beside it. The coefficient is the default of TRL 1.16.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.advantage import LeaveOneOut
from mmrl.credit.shaping import DivergencePaid
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.ratio import SequenceRatio

RLOO = replace(
    GRPO,
    name="rloo",
    title="RLOO",
    paper="2402.14740",
    summary="The mean of the other rollouts as baseline, the divergence paid in the reward, one ratio per rollout.",
    shaping=(DivergencePaid(coef=0.05),),
    advantage=LeaveOneOut(),
    ratio=SequenceRatio(length_normalized=False),
    divergence=NoDivergence(),
)
