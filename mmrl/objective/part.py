"""The slots of the objective stage. A part is a frozen dataclass of its hyper-parameters with `needs` and one `__call__`."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import PolicyOutputs, Totals, TrainBatch
from mmrl.credit.part import Need


class Ratio(Protocol):
    """Log-ratio of the policy to the old policy, per token."""

    needs: frozenset[Need]

    def __call__(
        self, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]: ...


class Surrogate(Protocol):
    """(log-ratio, advantage) → the objective to maximise, and which tokens were clipped (no gradient)."""

    needs: frozenset[Need]

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]: ...


class Divergence(Protocol):
    """Penalty per token for leaving the reference policy, to be multiplied by `coef`."""

    needs: frozenset[Need]
    coef: float

    def __call__(
        self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]: ...


class Regularizer(Protocol):
    """A further penalty per token (entropy, supervised, …), already multiplied by its coefficient."""

    needs: frozenset[Need]

    def __call__(self, outputs: PolicyOutputs, batch: TrainBatch) -> Float[Tensor, "B T"]: ...


class Aggregation(Protocol):
    """Per-token values → their share of the step's scalar. Denominators come from `totals` and each row's own length."""

    needs: frozenset[Need]

    def __call__(
        self, values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], totals: Totals
    ) -> Float[Tensor, ""]: ...
