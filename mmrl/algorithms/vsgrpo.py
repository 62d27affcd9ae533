"""vsGRPO: R1-Zero-like training of visual-spatial reasoning. arXiv:2504.00883 §4.

    loss = GRPO's with β = 1e-4

Against GRPO: the divergence is tiny but kept; without it the paper's format reward collapses to 0 during training. The
paper's equation has one ratio per sequence, not normalised by length; the code it builds on (R1-V) has one per token,
which is the default here: `ratio: {type: sequence, length_normalized: false}` is the equation. With one update per
rollout batch the two have the same gradient direction per token.

β = 1e-4 is the paper's; its ε is not given, 0.2 is GRPO's. Beyond the loss, vsGRPO is 14 rollouts per question, LoRA,
three prompt modes and their rewards (words by match, numbers by relative error); those are the run's, not the
learner's.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.objective.divergence import K3

VSGRPO = replace(
    GRPO,
    name="vsgrpo",
    title="vsGRPO",
    paper="2504.00883",
    summary="GRPO with a tiny divergence that is kept, β = 1e-4.",
    divergence=K3(coef=1e-4),
)
