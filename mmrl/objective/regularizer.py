"""Regularizers: penalties per token besides surrogate and divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.batch import NO_NEEDS, Need, PolicyOutputs, TrainBatch
from mmrl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyBonus:
    """−coef · H(π(·|o_<t)): pays for staying unsure. PPO, arXiv:1707.06347 eq. 9, with 0.01 there.

    The entropy is exact, of the whole next-token distribution; its gradient costs two more tensors of the logits' size.
    No catalogue entry has it. `coef` is our choice for language: with a large one entropy grows without end.
    """

    coef: float = 0.001
    needs: ClassVar[frozenset[Need]] = NO_NEEDS
    separates_equal_rewards: ClassVar[bool] = True  # it asks how sure the policy is, not what was paid
    learns_entropy: ClassVar[bool] = True

    def __call__(self, outputs: PolicyOutputs, batch: TrainBatch) -> Float[Tensor, "B T"]:
        assert outputs.entropy is not None
        return -self.coef * outputs.entropy


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptionGain:
    """−coef · k3: a reward for giving the completion another likelihood than under a partly blackened picture.

        k3 = e^d − d − 1 at most `most`,  d = log π_masked − log π, bounded to ±`clamp`

    PAPO, arXiv:2507.06448: coef 0.01 and 60 per cent black (`masked`) for the small models; `clamp` 20 and `most` 10
    are the estimator's in the code it builds on. As in the authors' released runs the masked policy is that of the
    step's start, without gradient. Maximised: it has no bound of its own but `most`.
    """

    coef: float = 0.01
    masked: float = 0.6
    clamp: float = 20.0
    most: float = 10.0
    needs: ClassVar[frozenset[Need]] = frozenset({Need.MASKED_LOGPROBS})

    def __post_init__(self) -> None:
        if not 0 <= self.masked <= 1:
            raise ConfigError(f"algorithm.regularizers.masked: expected a fraction of 0 to 1, got {self.masked}.")

    def __call__(self, outputs: PolicyOutputs, batch: TrainBatch) -> Float[Tensor, "B T"]:
        masked = batch.streams.masked_logprobs
        if masked is None:
            return torch.zeros_like(outputs.logprobs)
        d = (masked - outputs.logprobs).clamp(-self.clamp, self.clamp)
        return -self.coef * (torch.expm1(d) - d).clamp(max=self.most)
