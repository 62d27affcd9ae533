"""GRPO-λ: a length penalty only where the policy can afford it. arXiv:2505.18086.

    r_i ← r_i − coef · sigmoid((L_i − mean L)/std L) for correct rollouts, in groups with at least half of them correct

Against GRPO: short correct rollouts are paid more once a prompt is mostly solved; before, rewards are left alone.
`coef` 0.5 and `least_correct` 0.5 are our choice: the paper's values, and whether it takes a threshold or the best
fifth of the groups, are unconfirmed. Mean and std are over the group's correct rollouts.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.shaping import ShorterWhenRight

GRPO_LAMBDA = replace(
    GRPO,
    name="grpo_lambda",
    title="GRPO-λ",
    paper="2505.18086",
    summary="Shorter correct rollouts are paid more in groups that are mostly correct.",
    shaping=(ShorterWhenRight(coef=0.5, least_correct=0.5),),
)
