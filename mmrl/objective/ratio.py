"""Log-ratios between the policy and the old policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need
from mmrl.tensors import masked_mean, masked_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """log ρ_t = log π(o_t) − log π_old(o_t), each token by itself. PPO, arXiv:1707.06347; GRPO, arXiv:2402.03300."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        return logprobs - old_logprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceRatio:
    """One log-ratio per rollout, at each of its tokens: the mean of its tokens' log-ratios, or their sum.

    The mean is GSPO's, arXiv:2507.18071. The sum is the ratio of the sequences' probabilities as RLOO in TRL and the
    equation of vsGRPO, arXiv:2504.00883, have it (`length_normalized: false`).
    """

    length_normalized: bool = True
    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        difference = logprobs - old_logprobs
        of_row = masked_mean(difference, mask) if self.length_normalized else masked_sum(difference, mask)
        return of_row[:, None].expand_as(logprobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTokenRatio:
    """The value of the rollout's mean log-ratio, the gradient of each token's own log-probability.

    GSPO-token, arXiv:2507.18071: log s_{i,t} = sg[log s_i] + log π_t − sg[log π_t]; lets tokens of a rollout differ in
    their advantage.
    """

    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    stops_gradients: ClassVar[bool] = True

    def __call__(
        self, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        of_row = masked_mean(logprobs - old_logprobs, mask).detach()
        return of_row[:, None] + (logprobs - logprobs.detach())
