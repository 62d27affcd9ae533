"""W-REINFORCE: weighted REINFORCE. arXiv:2506.01347; as in the authors' code.

    A_i = 0.1 for a correct rollout, −1 for a wrong one;  the loss is PSR's

NSR with a little of PSR. The weight 0.1 is the paper's.
"""

from dataclasses import replace

from mmrl.algorithms.psr import PSR
from mmrl.credit.absolute import SignedCorrectness

W_REINFORCE = replace(
    PSR,
    name="w_reinforce",
    title="W-REINFORCE",
    summary="Wrong rollouts at full weight, correct ones at a tenth, without a baseline.",
    advantage=SignedCorrectness(right=0.1, wrong=1.0),
)
