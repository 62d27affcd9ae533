"""Learning impact: how well a sample's learning curve follows that of the whole data set. LIMR, arXiv:2502.11886.

    s_i = 1 − Σ_k (r_i^k − m^k)² / Σ_k (1 − m^k)²,   m^k = mean over samples of the accuracy in epoch k

1: the sample is learnt exactly as the data set is; always right or never right score low. A missing epoch takes the
next epoch's value, as in the authors' code; a sample whose last epoch is missing too has no score. They kept samples
from 0.6 upwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KEEP_FROM = 0.6


def learning_impact(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """accuracy: [samples, epochs], NaN where a sample was not asked. Scores [samples], NaN where there is none.

    Where every mean is 1 there is nothing to follow, and all scores are NaN.
    """
    filled = accuracy.copy()
    for epoch in range(filled.shape[1] - 2, -1, -1):
        missing = np.isnan(filled[:, epoch])
        filled[missing, epoch] = filled[missing, epoch + 1]
    whole = ~np.isnan(filled).any(axis=1)
    scores = np.full(len(filled), np.nan)
    if not whole.any():
        return scores
    mean = filled[whole].mean(axis=0)
    scale = ((1 - mean) ** 2).sum()
    if scale > 0:
        scores[whole] = 1 - ((filled[whole] - mean) ** 2).sum(axis=1) / scale
    return scores
