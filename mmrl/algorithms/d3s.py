"""D³S: dynamic dual-level down-sampling. arXiv:2509.22115.

    of the step's rollouts the subset of largest advantage variance; of its tokens those of largest |A| · entropy

Against GRPO: trains on less, chosen for what it can teach; both shares grow linearly over the run. Left-out rollouts
count in no total, left-out tokens weigh 0. The shares (from a half to all) are our choice: the paper's are unconfirmed,
as is the loss around them, here GRPO's.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.group_weight import MostVaried
from mmrl.credit.token_weight import MostInformative

D3S = replace(
    GRPO,
    name="d3s",
    title="D³S",
    paper="2509.22115",
    summary="Trains on the rollouts of largest advantage variance and on their most telling tokens.",
    loss_mask=(MostVaried(first=0.5, last=1.0),),
    token_weights=(MostInformative(first=0.5, last=1.0),),
)
