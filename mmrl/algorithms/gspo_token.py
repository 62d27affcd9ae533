"""GSPO-token: GSPO's ratio, with the gradient of each token by itself. arXiv:2507.18071.

    s_{i,t} = sg[s_i] · π_t / sg[π_t]            the value of GSPO's s_i, the gradient of log π_t

Against GSPO: tokens of one rollout may have different advantages. Where they have the same, value and gradient are
GSPO's.
"""

from dataclasses import replace

from mmrl.algorithms.gspo import GSPO
from mmrl.objective.ratio import SequenceTokenRatio

GSPO_TOKEN = replace(
    GSPO,
    name="gspo_token",
    title="GSPO-token",
    summary="GSPO's ratio per rollout in value, each token's own in gradient.",
    ratio=SequenceTokenRatio(),
)
