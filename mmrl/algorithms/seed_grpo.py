"""SEED-GRPO: semantic-entropy-aware GRPO. arXiv:2505.12346.

    A_i = (1 − 0.5 · SE/ln G) · (r_i − mean r),   SE the entropy of the group's clusters of equal answers

Against GRPO: groups whose answers scatter move the policy less; no division by the spread. Answers are equal if the
last <answer> blocks are, case and spaces aside. The shape of the factor (`form: exponential` is the other) and 0.5 are
our choice: the paper's are unconfirmed.
"""

from dataclasses import replace

from mmrl.algorithms.grpo import GRPO
from mmrl.credit.advantage import GroupCentered
from mmrl.credit.group_weight import SemanticEntropy

SEED_GRPO = replace(
    GRPO,
    name="seed_grpo",
    title="SEED-GRPO",
    paper="2505.12346",
    summary="Groups whose answers scatter get smaller advantages.",
    advantage=GroupCentered(),
    reweight=(SemanticEntropy(alpha=0.5, form="linear"),),
)
