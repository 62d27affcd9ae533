"""NSR: negative sample reinforcement alone. arXiv:2506.01347; as in the authors' code.

    A_i = 0 for a correct rollout, −1 for a wrong one;  the loss is PSR's

Wrong rollouts are made less likely, and what takes their place is left to the policy. The paper finds that it keeps the
policy's variety and raises pass@k at every k.
"""

from dataclasses import replace

from mmrl.algorithms.psr import PSR
from mmrl.credit.absolute import SignedCorrectness

NSR = replace(
    PSR,
    name="nsr",
    title="NSR",
    summary="Only wrong rollouts are trained on, away from them.",
    advantage=SignedCorrectness(right=0.0, wrong=1.0),
)
