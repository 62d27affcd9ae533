"""Divergences from the reference policy, estimated on the policy's own tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need


@dataclass(frozen=True, slots=True, kw_only=True)
class NoDivergence:
    """No penalty, and no reference policy is loaded."""

    coef: ClassVar[float] = 0.0
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return torch.zeros_like(logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class K3:
    """exp(d) − d − 1 with d = log π_ref − log π: non-negative, unbiased for KL(π‖π_ref) on tokens of π.

    GRPO, arXiv:2402.03300 eq. 4 (Schulman's k3). Its gradient with respect to log π is 1 − exp(d). `coef` is the
    paper's β, 0.04.
    """

    coef: float = 0.04
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        d = ref_logprobs - logprobs
        return torch.expm1(d) - d
