"""The slots of the objective stage: a part is a frozen dataclass of its hyper-parameters with `needs` and a call.

A part whose gradient is, by intent, not the derivative of its value (sg[·] in its formula) declares the class variable
`stops_gradients = True`.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import Need, PolicyOutputs, Totals, TrainBatch


class Ratio(Protocol):
    """Log-ratio of the policy to the old policy, per token."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]: ...


class Surrogate(Protocol):
    """(log-ratio, advantage, log-probability) → the objective to maximise, and which tokens were clipped.

    A clipped token is one whose ratio was bounded: in most parts it has no gradient.
    """

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, log_ratio: Float[Tensor, "B T"], advantages: Float[Tensor, "B T"], logprobs: Float[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T"], Bool[Tensor, "B T"]]: ...


class Divergence(Protocol):
    """Penalty per token for leaving the reference policy, to be multiplied by `coef`."""

    needs: ClassVar[frozenset[Need]]

    @property
    def coef(self) -> float: ...

    def __call__(self, logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]: ...


class Regularizer(Protocol):
    """A further penalty per token (entropy, supervised, …), already multiplied by its coefficient.

    One that reads `outputs.entropy` declares `learns_entropy = True`: entropies have a gradient for those only.
    """

    needs: ClassVar[frozenset[Need]]

    def __call__(self, outputs: PolicyOutputs, batch: TrainBatch) -> Float[Tensor, "B T"]: ...


class Coupling(Protocol):
    """A loss that compares rollouts with each other *under the current policy* (a margin between right and wrong, …).

    Written as a plain differentiable function of all the log-probabilities of an update. It is called once before each
    update on values from a pass without gradient; its exact derivative then enters the micro-batches as a slope per
    token (`Algorithm.couple`), so that no micro-batch needs to hold more than its own rows.

    On several ranks each calls it on the rows it holds, whole groups, and returns its share of the loss. A sum over
    rows that does not enter linearly goes through `totals.add_up` and its result through `totals.share`.
    """

    needs: ClassVar[frozenset[Need]]

    def __call__(self, logprobs: Float[Tensor, "B T"], batch: TrainBatch, totals: Totals) -> Float[Tensor, ""]: ...


class Aggregation(Protocol):
    """Per-token values → their share of the step's scalar, by `totals` and each row's own length."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], totals: Totals
    ) -> Float[Tensor, ""]: ...
