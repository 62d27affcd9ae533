"""GTPO: group-relative trajectory-based policy optimisation. arXiv:2508.03772; as in the authors' code.

    A_i  ← A_i − 0.1 · H_i, and 0 where H_i > 0.7                                 H_i: mean token entropy, nats
    loss = −Σ_i (1/max(1, n_i)) · mean_t ρ_t A_i δ_{i,t}        summed over the group, n_i its conflict tokens

Against GRPO: the beginning and the end that better and worse rollouts share (tags, phrases) count double for the better
and nothing for the worse; uncertain rollouts are left out; no divergence, no clip. 0.7 is the code's (the text says
ln 2). The code counts conflict tokens with a slip in their order (`count: released`); the default counts each once.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.conflict import ConflictTokens, EntropyCost
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import Unclipped

GTPO = replace(
    GRPO,
    name="gtpo",
    title="GTPO",
    paper="2508.03772",
    summary="Tokens that better and worse rollouts share are protected; uncertain rollouts are left out.",
    reweight=(EntropyCost(coef=0.1, highest=0.7),),
    token_weights=(ConflictTokens(),),
    surrogate=Unclipped(),
    divergence=NoDivergence(),
    reference=NoReference(),
)
