"""DRPO: decoupled reward policy optimisation. arXiv:2510.04474; as in the authors' code.

    J_q = Σ_right w_i (s_i − 10 · ln mean_wrong e^{s_j/10}),   w_i ∝ e^{(1 − |o_i|/L)/0.1}

Against DisCO: among right rollouts the short ones weigh more; wrong ones do not depend on length, so that a long right
rollout is never pushed down for its length. L is the run's `rollout.max_tokens` (the authors' code: the padded width);
0.1 is their script's.
"""

from dataclasses import replace

from mmrl.algorithms.disco import DISCO
from mmrl.objective.coupling import RightAboveWrong, TrustRegion

DRPO = replace(
    DISCO,
    name="drpo",
    title="DRPO",
    paper="2510.04474",
    summary="DisCO in which short right rollouts weigh more than long ones.",
    couplings=(RightAboveWrong(tau=10.0, length_decay=0.1), TrustRegion(beta=1e3, radius=1e-4)),
)
