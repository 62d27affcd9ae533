"""The slots of the credit stage: a part is a frozen dataclass of its hyper-parameters with `needs` and a call.

Every part sees the reward table and the step's context; what it may compare with each other is the whole step.

Three class variables are declared where they hold, and absent where not:
    separates_equal_rewards = True    the part can tell rollouts of equal reward apart, or pays against an absolute
                                      baseline: a step of constant rewards then still has a gradient
    memory_key = "name"               the part adapts: see `Adaptive`
    follows_the_step = True           it goes from one value to another over the run's `context.steps`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from mmrl.batch import Need, RewardTable, Streams
from mmrl.types import RolloutGroup, ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a credit part may know of the step besides its rewards."""

    streams: Streams  # [N, T]; only what some part needs is there
    mask: Bool[Tensor, "N T"]  # completion tokens; after the loss masks: those that carry loss
    max_tokens: int  # the configured longest completion
    step: int = 0  # of the run, from 0
    steps: int = 1  # of the whole run
    memory: Mapping[str, Any] = field(default_factory=dict)  # what adaptive parts knew before this step, by memory key
    drift: Mapping[str, float] = field(default_factory=dict)  # sample id → see `Adaptive.revisits`


class Shaping(Protocol):
    """Adds to the totals before they are compared."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]: ...


class GroupFilter(Protocol):
    """Keeps a scored group (None) or drops it, with a reason that is counted."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, group: ScoredGroup) -> str | None: ...


class Advantage(Protocol):
    """How much better a rollout was than its baseline."""

    needs: ClassVar[frozenset[Need]]

    def __call__(self, table: RewardTable, context: StepContext) -> Float[Tensor, " N"]: ...


class Reweight(Protocol):
    """Changes advantages after they were computed (by length, correctness, …)."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]: ...


class DivergenceWeight(Protocol):
    """A weight of the divergence per rollout."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]: ...


class LossMask(Protocol):
    """Rollouts that carry no loss at all: 1 keeps, 0 leaves every token of the rollout out of loss and totals."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, " N"]: ...


class TokenAdvantage(Protocol):
    """From a rollout's advantage to its tokens'."""

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, advantages: Float[Tensor, " N"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]: ...


class TokenWeight(Protocol):
    """A weight per token, fixed for the step; several multiply. Weight 0 leaves the totals alone.

    `token_weights` multiply the surrogate, `regularizer_weight` the regularizers.
    """

    needs: ClassVar[frozenset[Need]]

    def __call__(
        self, advantages: Float[Tensor, "N T"], table: RewardTable, context: StepContext
    ) -> Float[Tensor, "N T"]: ...


@runtime_checkable
class Adaptive(Protocol):
    """A part that learns across steps. What it knows is plain values in the step's memory, which checkpoints save.

    The part itself never changes: it reads `context.memory[memory_key]` (absent before the first step) and says what
    should be there after the step.
    """

    memory_key: ClassVar[str]

    def remember(self, table: RewardTable, context: StepContext) -> Any:
        """The part's memory after this step: dicts, lists, numbers and strings."""
        ...

    def revisits(self, groups: Sequence[RolloutGroup], memory: Any) -> list[RolloutGroup]:
        """Earlier rollouts of these groups' samples, to be read again with today's policy; [] for none.

        `context.drift[sample id]` then holds the mean over that rollout's tokens of |log-probability then − now|.
        """
        ...
