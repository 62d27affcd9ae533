"""The edge between the update and the machine: where the policy lives, how gradients are taken, what is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from mmrl.batch import PolicyOutputs
from mmrl.policy.packed import PackedBatch, Part
from mmrl.types import RolloutGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """AdamW, its schedule and its limits."""

    learning_rate: float
    part_learning_rates: Mapping[str, float] = field(default_factory=dict)  # of vision, projector, language; else that
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    steps: int  # optimiser updates of the whole stage: where the schedule ends
    warmup_steps: int = 0  # updates of linear warm-up from 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_fraction: float = 0.0  # of learning_rate, at the end of linear and cosine
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0


class TrainBackend(Protocol):
    """Holds policy, optimiser and, when asked for, the reference policy.

    Implementations: torch (the whole policy in every process), DeepSpeed (spread over processes). Where there are
    several ranks every method is called on all of them in the same order, each with groups of its own, or none; losses
    are shares that sum to the step's. What has no word of ranks works on the own groups.
    """

    def outputs(
        self,
        groups: Sequence[RolloutGroup],
        *,
        entropy: bool = False,
        disagreement: bool = False,
        reference: bool = False,
    ) -> PolicyOutputs:
        """Log-probabilities [N, T] of all rollouts in order, without gradient; of the reference policy if asked."""
        ...

    def begin_step(self) -> None:
        """A step begins: forget what was kept for the step before."""
        ...

    def micro_batches(self, groups: Sequence[RolloutGroup]) -> list[list[Part]]:
        """How the groups are split for one pass of `forward` and `backward`, which begins with this call.

        Some may be idle (`passes.py`): they have outputs of no rollout, and a loss of 0 that must go through
        `backward`.
        """
        ...

    def forward(
        self, parts: Sequence[Part], *, entropy: bool = False, learn_entropy: bool = False
    ) -> tuple[PolicyOutputs, PackedBatch]:
        """The policy on one micro-batch, with gradient; entropies where asked, theirs only with `learn_entropy`."""
        ...

    def backward(self, loss: Float[Tensor, ""]) -> None:
        """Add the gradient of one micro-batch's share of the loss."""
        ...

    def optimizer_step(self) -> tuple[float, float]:
        """Clip, update, clear the gradients. Returns (gradient norm before clipping, learning rate used).

        A gradient whose norm is infinite or not a number is forgotten: nothing is updated then.
        """
        ...

    def add_up(self, share: Tensor) -> Tensor:
        """The sum of what all ranks hand in, on every rank; its derivative is that of the own share.

        In a single process what was handed in. Every rank must call it the same number of times.
        """
        ...

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all ranks."""
        ...

    def discard_gradients(self) -> None:
        """Forget the gradients added since the last update."""
        ...

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Names and current values as in the Hugging Face layout, adapters merged, for an engine to load.

        Where parameters are spread over ranks they are gathered a few at a time: every rank must go through all.
        """
        ...

    def save_model(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout. Where there are several ranks all must call it; one writes."""
        ...

    def model_bytes(self) -> int:
        """About how much `save_model` writes."""
        ...

    def snapshot(self) -> Callable[[Path], None] | None:
        """What `save_model` would write now, copied to the processor's memory, as a function that writes it later.

        That function may run in another thread while training goes on. None where the weights are spread over several
        ranks, which would have to write them together.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything besides the policy's weights that the next step depends on: whole tensors by parameter names.

            updates    how many were made
            moments    name → what the optimiser remembers of it
            masters    name → float32 value of a trained parameter in a narrower format
            adapters   name → value
            copies     of the reference's rule → name → value
            pieces     where an optimiser in 8 bits is spread: its shards as they are, for the same ranks and stage

        It does not tell how many ranks there were or what was spread over them: any backend loads any other's. Only the
        first rank's is complete; the others' may be empty.
        """
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from the first rank's `state()` of an earlier run, whose policy weights are loaded already."""
        ...
