"""Regularizers: penalties per token besides surrogate and divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import Need, PolicyOutputs, TrainBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceToOld:
    """coef · |log π − log π_old|. KL-Cov, arXiv:2505.22617, coef 1, on the tokens `regularizer_weight` names.

    0 in value and gradient while the policy is the old policy, so it acts only in a step's second update and later.
    """

    coef: float = 1.0
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})

    def __call__(self, outputs: PolicyOutputs, batch: TrainBatch) -> Float[Tensor, "B T"]:
        old = batch.streams.old_logprobs
        return torch.zeros_like(outputs.logprobs) if old is None else self.coef * (outputs.logprobs - old).abs()
