"""The slots of the credit stage. A part is a frozen dataclass of its hyper-parameters with `needs` and one `__call__`."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import RewardTable, Streams
from mmrl.types import ScoredGroup


class Need(StrEnum):
    """A per-token stream a part wants the loop to compute for the step; nothing is computed that no part names."""

    OLD_LOGPROBS = "old_logprobs"  # only needed when a step makes several updates; otherwise old = current
    REF_LOGPROBS = "ref_logprobs"  # loads the algorithm's reference policy
    ENTROPY = "entropy"  # of the policy at the start of the step


class Shaping(Protocol):
    """Adds to the totals before they are compared."""

    needs: frozenset[Need]

    def __call__(self, table: RewardTable, max_tokens: int) -> Float[Tensor, " N"]: ...


class GroupFilter(Protocol):
    """Keeps a scored group (None) or drops it, with a reason that is counted."""

    needs: frozenset[Need]

    def __call__(self, group: ScoredGroup) -> str | None: ...


class Advantage(Protocol):
    """How much better a rollout was than its baseline."""

    needs: frozenset[Need]

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]: ...


class Reweight(Protocol):
    """Changes advantages after they were computed (by length, correctness, …)."""

    needs: frozenset[Need]

    def __call__(self, advantages: Float[Tensor, " N"], table: RewardTable) -> Float[Tensor, " N"]: ...


class DivergenceWeight(Protocol):
    """A weight of the divergence per rollout."""

    needs: frozenset[Need]

    def __call__(self, advantages: Float[Tensor, " N"], table: RewardTable) -> Float[Tensor, " N"]: ...


class TokenWeight(Protocol):
    """A weight of the surrogate per token, fixed for the step; several multiply. Weight 0 keeps the token in the totals."""

    needs: frozenset[Need]

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, streams: Streams
    ) -> Float[Tensor, "N T"]: ...


class LossMask(Protocol):
    """Rollouts that carry no loss at all: 1 keeps, 0 leaves every token of the rollout out of loss and totals."""

    needs: frozenset[Need]

    def __call__(self, table: RewardTable) -> Float[Tensor, " N"]: ...


NO_NEEDS: frozenset[Need] = frozenset()
