"""GSPO: group sequence policy optimisation. arXiv:2507.18071.

    s_i  = exp((1/|o_i|) Σ_t (log π − log π_old))
    loss = −(1/N) Σ_i min(s_i A_i, clip(s_i, 1 − 3e-4, 1 + 4e-4) A_i)

Against GRPO: one ratio per rollout, its tokens' geometric mean, so that a rollout is clipped or kept whole; bounds a
thousand times tighter, as the mean hardly moves; no divergence. For completions of one token it is GRPO.

The bounds are the paper's (§5.1), with 4 updates per rollout batch (`train.minibatches: 4`).
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.ratio import SequenceRatio
from mmrl.objective.surrogate import Clipped

GSPO = replace(
    GRPO,
    name="gspo",
    title="GSPO",
    paper="2507.18071",
    summary="One length-normalised ratio per rollout, clipped within tight bounds; no divergence.",
    ratio=SequenceRatio(),
    surrogate=Clipped(clip_low=3e-4, clip_high=4e-4),
    divergence=NoDivergence(),
    reference=NoReference(),
)
