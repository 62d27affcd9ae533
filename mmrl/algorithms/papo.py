"""PAPO: perception-aware policy optimisation. arXiv:2507.06448, PAPO_G as its authors ran it.

    loss = −(1/Σ|o_i|) Σ_{i,t} [ min(ρ_t A_i, clip(ρ_t, 0.8, 1.3) A_i) + 0.01 · k3(π_masked, π) ] + 0.01 · k3(π_ref, π)

Against GRPO: a reward for completions that would be less likely without the picture. π_masked reads the same completion
with 60 per cent of the picture's patches black, by the policy at the start of the step and without gradient: one more
pass, no more rollouts. Nothing but the estimator's bound holds it back; the authors add an entropy loss on both
policies for larger coefficients, which is not part of this entry.

0.01, 0.6, β = 0.01, the clip 0.2 / 0.3 and the masked pass without gradient are those of the authors' runs of small
models, by others' notes on their table and code. Blackened are the model's own patches, not squares of the original.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.objective.aggregation import TokenMean
from mmrl.objective.divergence import K3
from mmrl.objective.regularizer import PerceptionGain
from mmrl.objective.surrogate import Clipped

PAPO = replace(
    GRPO,
    name="papo",
    title="PAPO",
    paper="2507.06448",
    summary="Pays for completions that would be less likely with the picture mostly black.",
    surrogate=Clipped(clip_low=0.2, clip_high=0.3),
    aggregation=TokenMean(),
    divergence=K3(coef=0.01),
    divergence_aggregation=TokenMean(),
    regularizers=(PerceptionGain(coef=0.01, masked=0.6),),
)
