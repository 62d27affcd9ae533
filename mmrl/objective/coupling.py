"""Couplings: losses that compare rollouts with each other under the current policy.

Each is a plain differentiable function of all log-probabilities of one update; see `part.Coupling` for how its exact
derivative reaches the micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, Totals, TrainBatch
from mmrl.tensors import masked_mean, masked_sum
from mmrl.types import CORRECT_AT


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvantageRegression:
    """mean_i (A_i − Â_i)², Â_i the group-normalised log-ratio of the whole rollout. Reg-GRPO, arXiv:2506.07464.

        ρ_i = Σ_t (log π − log π_old),   Â_i = (ρ_i − mean ρ) / (std ρ + eps)        within the group, std with G − 1

    In a step's first update every ρ is 0, and so is its spread: the gradient is then that of ρ/eps. `eps` is our
    choice, as the paper's treatment of that case is not known.
    """

    eps: float = 1e-4
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})
    separates_equal_rewards: ClassVar[bool] = True  # without advantages the log-ratios are fitted to 0, through eps

    def __call__(self, logprobs: Float[Tensor, "B T"], batch: TrainBatch, totals: Totals) -> Float[Tensor, ""]:
        assert batch.streams.old_logprobs is not None
        ratio = masked_sum(logprobs - batch.streams.old_logprobs, batch.loss_mask)
        if not len(ratio):  # a rank without a group of this update
            return ratio.sum()
        squares = [
            ((batch.advantages[rows] - normalised(ratio[rows], self.eps)) ** 2).sum() for rows in _groups(batch.group)
        ]
        return torch.stack(squares).sum() / max(totals.rollouts, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RightAboveWrong:
    """−(1/K) Σ_groups Σ_right w_i (s_i − tau · ln mean_wrong e^{s_j/tau}), s the mean log-probability of a rollout.

    DisCO, arXiv:2505.12366, with w_i = 1/(number right); DRPO, arXiv:2510.04474, with w_i ∝ e^{(1 − |o_i|/L)/lambda}
    (`length_decay` is lambda: shorter right rollouts weigh more). L is the run's `max_tokens`; the authors' code takes
    the padded width. tau 10 and lambda 0.1 are the authors'. `length_decay: 0` weighs all alike.

    Only groups with both outcomes contribute; K counts all groups of the update.
    """

    tau: float = 10.0
    length_decay: float = 0.1
    threshold: float = CORRECT_AT
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(self, logprobs: Float[Tensor, "B T"], batch: TrainBatch, totals: Totals) -> Float[Tensor, ""]:
        score = masked_mean(logprobs, batch.loss_mask)
        right: Bool[Tensor, " B"] = batch.accuracy >= self.threshold
        length = batch.loss_mask.sum(dim=1) / batch.max_tokens
        value = score.sum() * 0
        for rows in _groups(batch.group):
            good, bad = rows[right[rows]], rows[~right[rows]]
            if len(good) and len(bad):
                weights = self._weights(length[good]).to(score.dtype)
                wrong = self.tau * (torch.logsumexp(score[bad] / self.tau, dim=0) - torch.tensor(len(bad)).log())
                value = value + (weights * (score[good] - wrong)).sum()
        return -value / max(totals.groups, 1.0)

    def _weights(self, length: Float[Tensor, " R"]) -> Float[Tensor, " R"]:
        if self.length_decay == 0:
            return torch.full_like(length, 1 / len(length))
        return (-length / self.length_decay).softmax(dim=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRegion:
    """A penalty once the update has moved the policy further than `radius` from the old one. DisCO, DRPO.

    sg[beta · max(K̂ − radius, 0)] · K̂ with K̂ = mean over all tokens of log π_old − log π: the gradient of a squared
    hinge. beta 1000 and radius 1e-4 are the authors'.
    """

    beta: float = 1e3
    radius: float = 1e-4
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OLD_LOGPROBS})
    separates_equal_rewards: ClassVar[bool] = True  # it asks how far the policy moved, not what was paid

    def __call__(self, logprobs: Float[Tensor, "B T"], batch: TrainBatch, totals: Totals) -> Float[Tensor, ""]:
        assert batch.streams.old_logprobs is not None
        own = masked_sum(batch.streams.old_logprobs - logprobs, batch.loss_mask).sum()
        moved = totals.add_up(own) / max(totals.tokens, 1.0)
        return totals.share((self.beta * (moved - self.radius).clamp(min=0.0)).detach() * moved, len(logprobs))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquared:
    """coef · √max(χ̂², least), χ̂² = mean_i [expm1(l_i) + expm1(−l_i)], l_i = Σ_t (log π − log π_ref).

    "Correlated proxies", arXiv:2403.03185: under rollouts of π the mean of π/π_ref − 1 is χ²(π‖π_ref), and the second
    term, of mean 0, keeps the estimate from going negative. Beyond |l| = `linear_beyond` both exponentials go on as
    straight lines. 10 and `least` 1e-4 are the authors' code's; `coef` is relative to the rewards' spread there, from
    0.01 to 1.
    """

    coef: float = 0.05
    least: float = 1e-4
    linear_beyond: float = 10.0
    needs: ClassVar[frozenset[Need]] = frozenset({Need.REF_LOGPROBS})
    separates_equal_rewards: ClassVar[bool] = True  # it asks how far the policy is from the reference

    def __call__(self, logprobs: Float[Tensor, "B T"], batch: TrainBatch, totals: Totals) -> Float[Tensor, ""]:
        assert batch.streams.ref_logprobs is not None
        log_ratio = masked_sum(logprobs - batch.streams.ref_logprobs, batch.loss_mask)
        terms = self._expm1(log_ratio) + self._expm1(-log_ratio)
        mean = totals.add_up(terms.sum()) / max(totals.rollouts, 1.0)
        return totals.share(self.coef * mean.clamp(min=self.least).sqrt(), len(logprobs))

    def _expm1(self, x: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        bounded = x.clamp(max=self.linear_beyond)
        return torch.expm1(bounded) + (x - bounded) * torch.tensor(self.linear_beyond).exp()


def normalised(values: Float[Tensor, " G"], eps: float) -> Float[Tensor, " G"]:
    """(x − mean) / (std + eps), std with G − 1; differentiable also where all values are equal."""
    if len(values) < 2:
        return values * 0
    centred = values - values.mean()
    variance = (centred**2).sum() / (len(values) - 1)
    spread = variance.clamp(min=torch.finfo(values.dtype).tiny).sqrt()
    return centred / (torch.where(variance > 0, spread, 0.0) + eps)


def _groups(group: Int[Tensor, " B"]) -> list[Int[Tensor, " g"]]:
    return [(group == g).nonzero().squeeze(1) for g in group.unique()]
