"""PSR: positive sample reinforcement alone. arXiv:2506.01347; as in the authors' code.

    A_i  = 1 for a correct rollout, 0 for a wrong one
    loss = −(1/Σ|o_i|) Σ_{i,t} min(ρ_t A_i, clip(ρ_t, 0.8, 1.2) A_i)

Against GRPO: no baseline and no spread: correct rollouts are imitated, wrong ones ignored. The paper finds that it
raises pass@1 and narrows the policy. Correct means accuracy of at least 0.5; other rewards do not enter.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.absolute import SignedCorrectness
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import NoDivergence

PSR = replace(
    GRPO,
    name="psr",
    title="PSR",
    paper="2506.01347",
    summary="Only correct rollouts are reinforced, without a baseline.",
    advantage=SignedCorrectness(right=1.0, wrong=0.0),
    aggregation=TokenMean(),
    divergence=NoDivergence(),
    divergence_aggregation=TokenMean(),
    reference=NoReference(),
)
