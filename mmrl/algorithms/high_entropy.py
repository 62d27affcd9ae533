"""Training on high-entropy tokens only: "Beyond the 80/20 rule". arXiv:2506.01939.

    loss = DAPO's, its surrogate multiplied by 1[H_t ≥ the 0.8-quantile of all tokens of the step]

Against DAPO: the four fifths of tokens that the policy was sure of carry no gradient; they still count in the
denominator, as in TRL. The fraction is the paper's.
"""

from dataclasses import replace

from mmrl.algorithms.dapo import DAPO
from mmrl.credit.token_weight import HighEntropy

HIGH_ENTROPY = replace(
    DAPO,
    name="high_entropy",
    title="High-entropy tokens (80/20)",
    paper="2506.01939",
    summary="DAPO on the fifth of the tokens that the policy was least sure of.",
    token_weights=(HighEntropy(fraction=0.2),),
)
