"""Log-ratios between the policy and the old policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRatio:
    """log ρ_t = log π(o_t) − log π_old(o_t), each token by itself. PPO, arXiv:1707.06347; GRPO, arXiv:2402.03300."""

    needs: ClassVar[frozenset[Need]] = NO_NEEDS

    def __call__(
        self, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        return logprobs - old_logprobs
