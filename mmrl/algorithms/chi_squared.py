"""χ² regularisation against the reference: "Correlated proxies". arXiv:2403.03185; as in the authors' RLHF code.

    loss = GRPO's surrogate + coef · √max(χ̂², 1e-4)
    χ̂²   = mean_i [expm1(l_i) + expm1(−l_i)],   l_i = Σ_t (log π − log π_ref)

Against GRPO: the divergence is χ² of whole rollouts, which weighs far outliers much more than KL, under a square root
over the whole update. `coef` 0.05 is our choice: the authors sweep 0.01 to 1 times the rewards' spread. The surrogate
is GRPO's; theirs is PPO with a value model.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.objective.coupling import ChiSquared
from mmrl.objective.divergence import NoDivergence

CHI_SQUARED = replace(
    GRPO,
    name="chi_squared",
    title="GRPO with χ² regularisation",
    paper="2403.03185",
    summary="A χ² penalty on whole rollouts instead of a KL divergence per token.",
    divergence=NoDivergence(),
    couplings=(ChiSquared(coef=0.05),),
)
