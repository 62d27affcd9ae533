"""The edge between "what to ask" and "how to sample": every engine turns prompts into groups of rollouts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mmrl.types import Dropped, Prompt, RolloutGroup

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn."""

    group_size: int  # rollouts per prompt, G
    max_tokens: int  # longest completion, end token included
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0  # smallest set of tokens whose probability reaches top_p; 1: all
    top_k: int = 0  # only the k likeliest tokens; 0: all
    stop: tuple[str, ...] = ()  # strings that end a completion; they stay in its text
    purpose: str = "train"  # enters the seeds, so that evaluation never repeats training's randomness
    first_index: int = 0  # of the rollouts in their group: above 0, those before it are there already


class RolloutEngine(Protocol):
    """Samples from the policy. Implementations: transformers (default), vllm, vllm_server, scripted (tests)."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, sizes: Sequence[int] | None = None
    ) -> list[RolloutGroup]:
        """One group per prompt, in the order of `prompts`; of `sizes` rollouts each where given, else of group_size.

        Their indices count from `sampling.first_index`.

        A rollout depends on its own seed (see `seeds.py`), the weights and the prompt, not on the batch it was
        sampled in. Only an engine that `LosesGroups` may leave a prompt out.
        """
        ...

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], *, version: int) -> None:
        """Sample from these weights from now on; `version` is stamped on the rollouts."""
        ...


@runtime_checkable
class Rests(Protocol):
    """An engine that can make room between uses."""

    def rest(self) -> None:
        """Nothing will be sampled for a while. The next call wakes it."""
        ...


@runtime_checkable
class LosesGroups(Protocol):
    """An engine whose `generate` may come back without some of the groups."""

    def take_dropped(self) -> list[Dropped]:
        """Which prompts have no group, and why, since the last call."""
        ...


@runtime_checkable
class Tells(Protocol):
    """An engine to which things happen that the user should know of."""

    def take_notices(self) -> list[str]:
        """A sentence each, since the last call."""
        ...


@runtime_checkable
class Measures(Protocol):
    """An engine with figures of its own."""

    def metrics(self) -> dict[str, float]:
        """As they are now; names as in `training/metrics.py`."""
        ...


@runtime_checkable
class Closes(Protocol):
    """An engine that holds processes or memory of its own."""

    def close(self) -> None:
        """Let go of them. It cannot be used any more."""
        ...
