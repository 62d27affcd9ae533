"""LUSPO: length-unbiased sequence policy optimisation. arXiv:2602.05261, as TRL 1.16 computes it.

    loss = −(1/N) Σ_i |o_i| · min(s_i A_i, clip(s_i, 1 − 3e-4, 1 + 4e-4) A_i)

Against GSPO: a rollout weighs by its length, so that a token's weight does not fall with the length of its rollout. The
bounds are GSPO's: the paper's own are unconfirmed.
"""

from dataclasses import replace

from mmrl.algorithms.gspo import GSPO
from mmrl.objective.aggregation import SequenceSum

LUSPO = replace(
    GSPO,
    name="luspo",
    title="LUSPO",
    paper="2602.05261",
    summary="GSPO with every rollout weighed by its length.",
    aggregation=SequenceSum(),
    divergence_aggregation=SequenceSum(),
)
