"""Divergences from the reference policy, estimated on the policy's own tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need
from mmrl.errors import ConfigError, unknown_name

GENERATORS = ("forward_kl", "jensen_shannon", "alpha")


def k3(logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """exp(d) − d − 1 with d = log π_ref − log π. Also the metric `policy/kl_mean`, whatever the divergence is."""
    d = ref_logprobs - logprobs
    return torch.expm1(d) - d


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
    paper's β, 0.04. `clamp` bounds d to ±clamp before the exponential, where the gradient is then 0: 10 in Video-R1
    and GRPO-CARE, 11 in TW-GRPO, 20 in verl, infinite in TRL and here.
    """

    coef: float = 0.04
    clamp: float = math.inf
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        d = (ref_logprobs - logprobs).clamp(-self.clamp, self.clamp)
        return torch.expm1(d) - d


@dataclass(frozen=True, slots=True, kw_only=True)
class K1:
    """log π − log π_ref: unbiased for KL(π‖π_ref) in value; its gradient is that of log π, 0 in expectation."""

    coef: float = 0.04
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return logprobs - ref_logprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class K2:
    """(log π − log π_ref)² / 2: its gradient is, in expectation under π, that of KL(π‖π_ref)."""

    coef: float = 0.04
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return (logprobs - ref_logprobs) ** 2 / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Absolute:
    """|log π − log π_ref|."""

    coef: float = 0.04
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        return (logprobs - ref_logprobs).abs()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardKL:
    """w·ln w − w + 1 with w = π_ref/π: estimates KL(π_ref‖π) on tokens of π. RAPO's divergence, arXiv:2510.03865."""

    coef: float = 0.01
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        d = ref_logprobs - logprobs
        return d.exp() * d - torch.expm1(d)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorDivergence:
    """An f-divergence's generator at u = π/π_ref, as DPH-RL's code computes it. arXiv:2509.07430.

    `form` "forward_kl": u − 1 − ln u, "jensen_shannon": u ln u − (u + 1) ln((u + 1)/2), "alpha":
    (u^{1−α} − (1 − α)u − α) / (α(α − 1)). On tokens of π_ref their means are KL(π_ref‖π), the Jensen–Shannon and the
    α-divergence (DPH-RL applies them to stored completions of the base policy); on the policy's own tokens they are
    penalties of the same shape, not estimates. DPH-RL: coef 0.01–0.05 forward, 0.05–0.2 JS; α 0.2.
    """

    coef: float = 0.01
    form: str = "forward_kl"
    alpha: float = 0.2
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})

    def __post_init__(self) -> None:
        if self.form not in GENERATORS:
            raise ConfigError(f"divergence.form: {unknown_name('form', self.form, GENERATORS)}")

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        log_u = logprobs - ref_logprobs
        u = log_u.exp()
        if self.form == "forward_kl":
            return torch.expm1(log_u) - log_u
        if self.form == "jensen_shannon":
            return u * log_u - (u + 1) * ((u + 1) / 2).log()
        a = self.alpha
        return (((1 - a) * log_u).exp() - (1 - a) * u - a) / (a * (a - 1))
