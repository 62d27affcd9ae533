"""Aggregations: per-token values of a micro-batch → its share of the step's scalar.

The shares of all micro-batches add up to the step's value, whatever the split, because every denominator is either a
row's own length or one of the step-wide `Totals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, Totals
from mmrl.tensors import masked_mean, masked_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceMean:
    """(1/N) Σ_i (1/|o_i|) Σ_t: every rollout weighs the same, whatever its length. GRPO, arXiv:2402.03300 eq. 3."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], totals: Totals) -> Float[Tensor, ""]:
        return masked_mean(values, mask).sum() / max(totals.rollouts, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMean:
    """(1/Σ|o_i|) Σ_{i,t}: every token of the step weighs the same. DAPO, arXiv:2503.14476 eq. 8."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], totals: Totals) -> Float[Tensor, ""]:
        return masked_sum(values, mask).sum() / max(totals.tokens, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxLengthMean:
    """(1/(N·L_max)) Σ_{i,t}: no bias towards short or long rollouts. Dr. GRPO, arXiv:2503.20783 §3.2.

    L_max is the run's `rollout.max_tokens` (a constant: a padded width would make the scale depend on the batch).
    """

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], totals: Totals) -> Float[Tensor, ""]:
        return masked_sum(values, mask).sum() / (max(totals.rollouts, 1.0) * totals.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSum:
    """(1/N) Σ_i Σ_t: a rollout weighs by its length. With a sequence ratio (1/N) Σ |o_i| · loss_i: LUSPO, as in TRL."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], totals: Totals) -> Float[Tensor, ""]:
        return masked_sum(values, mask).sum() / max(totals.rollouts, 1.0)
