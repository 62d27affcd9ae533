"""DisCO: discriminative constrained optimisation, with log-likelihood scores. arXiv:2505.12366.

    s_i  = mean_t log π;   J_q = mean_right [ s_i − 10 · ln mean_wrong e^{s_j/10} ]
    loss = −(1/K) Σ_q J_q + sg[1000 · max(K̂ − 1e-4, 0)] · K̂,   K̂ = mean over all tokens of log π_old − log π

Against GRPO: no advantages: right rollouts are raised above wrong ones of their group, whatever the share of either,
and a penalty keeps the update near the old policy. Groups with one outcome contribute nothing, and K counts them. All
values are the authors' code's; the loss here has the value of the formula (theirs has the right gradient only).
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.objective.coupling import RightAboveWrong, TrustRegion
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import NoSurrogate

DISCO = replace(
    GRPO,
    name="disco",
    title="DisCO",
    paper="2505.12366",
    summary="Raises the likelihood of right rollouts above that of wrong ones, within a trust region.",
    surrogate=NoSurrogate(),
    divergence=NoDivergence(),
    couplings=(RightAboveWrong(tau=10.0, length_decay=0.0), TrustRegion(beta=1e3, radius=1e-4)),
    reference=NoReference(),
)
