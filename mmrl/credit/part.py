"""The slots of the credit stage: a part is a frozen dataclass of its hyper-parameters with `needs` and a call."""

from __future__ import annotations

from typing import ClassVar, Protocol

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import Need, RewardTable, Streams
from mmrl.types import ScoredGroup


class Shaping(Protocol):
    """Adds to the totals before they are compared."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, table: RewardTable, max_tokens: int) -> Float[Tensor, " N"]: ...


class GroupFilter(Protocol):
    """Keeps a scored group (None) or drops it, with a reason that is counted."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, group: ScoredGroup) -> str | None: ...


class Advantage(Protocol):
    """How much better a rollout was than its baseline."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]: ...


class Reweight(Protocol):
    """Changes advantages after they were computed (by length, correctness, …)."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, advantages: Float[Tensor, " N"], table: RewardTable) -> Float[Tensor, " N"]: ...


class DivergenceWeight(Protocol):
    """A weight of the divergence per rollout."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, advantages: Float[Tensor, " N"], table: RewardTable) -> Float[Tensor, " N"]: ...


class TokenWeight(Protocol):
    """A weight of the surrogate per token, fixed for the step; several multiply. Weight 0 leaves the totals alone."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, streams: Streams
    ) -> Float[Tensor, "N T"]: ...


class LossMask(Protocol):
    """Rollouts that carry no loss at all: 1 keeps, 0 leaves every token of the rollout out of loss and totals."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]: ...
