"""The engine's log-probabilities against the trainer's: measured in every step, corrected token by token.

An engine with weights and kernels of its own samples from a policy that is not quite the one that is trained: sums are
rounded elsewhere, and its weights may be a version behind. By importance sampling a token then counts with

    ρ = π_old(token) / π_engine(token)

π_old: the trainer's policy at the step's start (`old_logprobs`; with a single update per step the policy itself, to
which it is equal then). Both are untempered and untruncated, so that ρ is exactly 1 where engine and trainer agree,
whatever the temperature: what temperature and top-p do to the distribution drawn from is wanted, and not taken back.
The weight is fixed for the step and multiplies the surrogate only; the surrogate's own ratio and clip are between the
policy and π_old, as ever.

Truncated: min(ρ, cap), as in IMPALA (arXiv:1802.01561, eq. 1) and, per token, in "Your Efficient RL Framework Secretly
Brings You Off-Policy RL Training" (Yao et al. 2025). Masked: ρ inside [floor, cap], else 0, as IcePop
(arXiv:2510.18855). Never a whole sequence at a time: the ratio of a completion is a product over its tokens, and at a
mean gap of 0.012 nats one of 100 tokens would already be left out at a cap of 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import TrainBatch

LARGEST = 20.0  # nats: ρ is not measured beyond e^±20, so that sums of its square stay finite


class Correction(Protocol):
    """What a token's ratio makes of its weight in the surrogate."""

    def __call__(self, ratio: Float[Tensor, "B T"]) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """(weights, where the weight is not the ratio itself). A ratio of 1 has weight 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncated:
    """min(ρ, cap)."""

    cap: float = 2.0  # at least 1

    def __call__(self, ratio: Float[Tensor, "B T"]) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        return ratio.clamp(max=self.cap), ratio > self.cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """ρ inside [floor, cap], 0 outside. Tokens left out stay in the denominators."""

    floor: float = 0.5  # in [0, 1]
    cap: float = 2.0  # at least 1

    def __call__(self, ratio: Float[Tensor, "B T"]) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]:
        outside = (ratio < self.floor) | (ratio > self.cap)
        return ratio.masked_fill(outside, 0.0), outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """What a micro-batch's tokens say of the engine. Sums and maxima over the loss tokens that an engine sampled."""

    weights: Float[Tensor, "B T"] | None  # multiply the surrogate; None: nothing is corrected
    sums: dict[str, float]  # compared (tokens), gap (nats), importance (ρ), importance_squared, corrected (tokens)
    maxima: dict[str, float]  # gap


@torch.no_grad()
def mismatch(logprobs: Float[Tensor, "B T"], batch: TrainBatch, correction: Correction | None) -> Mismatch:
    """Compare the old policy with the engine that sampled. `logprobs`: the policy's now, used where it is the old one.

    Tokens no engine sampled (demonstrations: NaN) and tokens without loss are not compared and weigh 1.
    """
    old = batch.streams.old_logprobs if batch.streams.old_logprobs is not None else logprobs.detach()
    apart = (old - batch.engine_logprobs).double()  # [B, T]
    compared = batch.loss_mask & apart.isfinite()
    apart = apart.masked_fill(~compared, 0.0)
    ratio = apart.clamp(-LARGEST, LARGEST).exp()
    sums = {
        "compared": float(compared.sum()),
        "gap": float(apart.abs().sum()),
        "importance": float(ratio[compared].sum()),
        "importance_squared": float(ratio[compared].square().sum()),
    }
    weights = None
    if correction is not None:
        weights, changed = correction(ratio.to(logprobs.dtype))
        sums["corrected"] = float((changed & compared).sum())
    return Mismatch(weights=weights, sums=sums, maxima={"gap": float(apart.abs().max()) if apart.numel() else 0.0})


def corrected(batch: TrainBatch, weights: Float[Tensor, "B T"] | None) -> TrainBatch:
    """The batch whose surrogate is weighed besides by `weights`."""
    return batch if weights is None else replace(batch, token_weights=batch.token_weights * weights)


def mismatch_metrics(sums: dict[str, float], maxima: dict[str, float]) -> dict[str, float]:
    """`policy/behavior_…` of a step from the sums over its updates; nothing where no token was compared."""
    count = sums["compared"]
    if not count:
        return {}
    found = {
        "policy/behavior_gap_mean": sums["gap"] / count,
        "policy/behavior_gap_max": maxima["gap"],
        "policy/behavior_ess": sums["importance"] ** 2 / (count * sums["importance_squared"]),
    }
    if "corrected" in sums:
        found["policy/behavior_corrected_fraction"] = sums["corrected"] / count
    return found
