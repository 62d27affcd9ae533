"""TempSamp-R1: a ground-truth answer in every group, and soft advantages. arXiv:2509.18056.

    group = G − 1 rollouts and the gold answer written in the asked form
    R     = tau + 0.01 · ln(r − tau + 1) for r ≥ tau = 0.8,  else tau − (e^{tau − r} − 1)/(e − 1)     of the accuracy
    A_i   = (R_i − mean R) / (std R + 1e-4), the gold answer in mean and spread;  clip 0.2 / 0.28, no divergence

Against GRPO: where the policy finds nothing (a span in a long clip), the gold answer still shows the direction; the map
flattens the top, so that the perfect row does not dwarf the others. The gold row is not in the logged rewards.

The values are those of the only public implementation, a third party's (7 + 1 rows, shaped IoU + 0.1 · format). How the
authors form the gold row's ratio is not confirmed; here its old log-probabilities are the trainer's, as that
implementation recomputes them: 1 before the first update. What stands in its reasoning tags is our choice
(`demonstrations: [{type: ground_truth, thought: …}]`). The paper's other anchors of the gold row's advantage and its
training without reasoning for part of the prompts are not part of this entry: their values are not known to us.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import NoReference
from mmrl.credit.shaping import SoftTop
from mmrl.objective.divergence import NoDivergence
from mmrl.objective.surrogate import Clipped
from mmrl.plan.demonstrations import GroundTruth

TEMPSAMP_R1 = replace(
    GRPO,
    name="tempsamp_r1",
    title="TempSamp-R1",
    paper="2509.18056",
    summary="The gold answer is one of the group, and rewards are flattened at the top.",
    demonstrations=(GroundTruth(),),
    shaping=(SoftTop(tau=0.8, steepness=1.0, of="accuracy"),),
    surrogate=Clipped(clip_low=0.2, clip_high=0.28),
    divergence=NoDivergence(),
    reference=NoReference(),
)
