"""GRPO-CARE: consistency-aware GRPO. arXiv:2506.16141; as in the authors' code.

    r_i  = accuracy_i + format_i + bonus_i;   bonus_i = 0.5 · accuracy_i if i in H and p_i ≥ mean_H p − margin, else 0
    p_i  = min(exp(mean log π_φ of the answer's tokens | prompt, reasoning), 0.95)
    H    = rollouts with accuracy > 0.1 and at least the group's mean
    φ    ← 0.995 φ + 0.005 θ after every 10th optimiser update;  no divergence

Against GRPO: a second tier of reward for answers that follow from the reasoning, judged by a slowly moving copy of the
policy, instead of a divergence from it. An all-correct group still has something to learn. The paper averages token
probabilities, the code their logarithms: `likelihood: arithmetic` is the paper's. `span_includes_gt` is on, as in the
code: the token that ends "<answer>" counts. `margin` is 0 for SEED-Bench-R1, 0.01 for general video data.

All values are those of the paper and the authors' scripts, which update once per rollout batch (the clip, GRPO's, then
never acts).
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.algorithms.reference import EmaReference
from mmrl.credit.consistency import ConsistencyBonus
from mmrl.objective.divergence import NoDivergence

GRPO_CARE = replace(
    GRPO,
    name="grpo_care",
    title="GRPO-CARE",
    paper="2506.16141",
    summary="A bonus for answers that a slowly moving reference finds likely after the reasoning, and no divergence.",
    shaping=(ConsistencyBonus(coef=0.5, cap=0.95, margin=0.0),),
    divergence=NoDivergence(),
    reference=EmaReference(decay=0.995, every=10),
)
