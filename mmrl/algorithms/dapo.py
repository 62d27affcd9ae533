"""DAPO: decoupled clip and dynamic sampling. arXiv:2503.14476 eq. 8–13.

    loss = −(1/Σ|o_i|) Σ_{i,t} min(ρ_t A_i, clip(ρ_t, 0.8, 1.28) A_i)     every token weighs the same; no divergence

and two more: groups that are all right or all wrong are dropped and refilled (`rollout.max_refills` rounds at most),
and completions near the longest allowed are penalised (eq. 13). The paper also describes leaving truncated rollouts out
of the loss (§3.4, overlong filtering); its soft penalty supersedes that, so `loss_mask` is empty here: set
`loss_mask: [{type: truncated}]` to filter.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.filters import MixedCorrectness
from mmrl.credit.shaping import SoftOverlong
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import Clipped

DAPO = replace(
    GRPO,
    name="dapo",
    title="DAPO",
    paper="2503.14476",
    summary="Token mean, a higher upper clip, groups without signal refilled, soft overlong penalty, no divergence.",
    shaping=(SoftOverlong(margin=0.2),),
    filters=(MixedCorrectness(),),
    surrogate=Clipped(clip_low=0.2, clip_high=0.28),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
