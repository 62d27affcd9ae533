"""WARP's anchor: the divergence is measured against the policy's moving average. arXiv:2406.16768, stage 1 of 3.

    φ ← 0.99 φ + 0.01 θ after every update;   loss = GRPO's with π_ref = π_φ

Against GRPO: the policy may go far, but not fast. 0.01 is unconfirmed. WARP's other two stages merge finished policies
(spherical interpolation, then a step back towards the start); they are no part of one run's learner.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import EmaReference

WARP_ANCHOR = replace(
    GRPO,
    name="warp_anchor",
    title="GRPO with WARP's anchor",
    paper="2406.16768",
    summary="The divergence is measured against a moving average of the policy.",
    reference=EmaReference(decay=0.99, every=1),
)
