"""Plain torch: one process, or several that each hold the whole policy and add up their gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmrl.algorithms.reference import PRECISE, REFERENCE, AdapterOff, NoReference, Reference
from mmrl.backend.backend import OptimizerSettings
from mmrl.backend.masters import Masters
from mmrl.backend.optimizer import (
    build_optimizer,
    freeze_parts,
    load_moments,
    moments,
    parameter_groups,
    schedule,
    set_rates,
    trainable,
)
from mmrl.backend.passes import Passes, without_idle
from mmrl.batch import PolicyOutputs
from mmrl.errors import ConfigError
from mmrl.policy.adapters import (
    adapter_state,
    adapters_off,
    copied_weights,
    has_adapters,
    is_quantized,
    load_adapter_state,
    merged_weights,
    weights_to_save,
)
from mmrl.policy.load import LoadedModel
from mmrl.policy.packed import PackedBatch, Part
from mmrl.policy.policy import Policy, other_features, share_features
from mmrl.ranks import ALONE, Ranks
from mmrl.types import RolloutGroup

NO_REFERENCE = NoReference()
HELD_BYTES = 2**30  # of the tower's graph, kept from the rollouts to the first update of a step


class TorchBackend:
    """AdamW over the policy's trainable parameters; copies of the policy as the reference's rule asks for them."""

    def __init__(
        self,
        model: LoadedModel,
        settings: OptimizerSettings,
        *,
        reference: Reference = NO_REFERENCE,
        freeze: Sequence[str] = (),
        micro_batch_tokens: int = 16384,
        checkpoint_layers: bool = False,
        device: str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self._model = model
        self._settings = settings
        self._ranks = ranks
        self.policy.train()
        # Copied before freezing, so that freezing and training the policy never touch it.
        self._rule = reference
        if isinstance(reference, AdapterOff) and not has_adapters(self.policy.model):
            raise ConfigError("algorithm.reference: adapter_off needs adapters; give train.lora, or take frozen.")
        if reference.copies and is_quantized(self.policy.model):
            raise ConfigError(
                "algorithm.reference: a 4-bit policy (model.four_bit) has no copy that could stand still or follow; "
                "take {type: adapter_off}: the same weights without the adapters."
            )
        self._reference = _frozen(copy.deepcopy(self.policy)) if REFERENCE in self._rule.copies else None
        self._copies = {
            name: [p.detach().to(torch.float32, copy=True) for p in self.policy.parameters()]
            for name in self._rule.copies
            if name not in (REFERENCE, PRECISE)
        }
        if self._reference is not None:
            self._copies[REFERENCE] = list(self._reference.parameters())
        if PRECISE in self._rule.copies:
            self._copies[PRECISE] = [p.to(torch.float32) for p in self._copies[REFERENCE]]
        freeze_parts(self.policy, freeze)
        share_features(self.policy, self._reference)
        # Several ranks use the tower in step with each other, and checkpointing is there to keep no graph.
        self._held_patches = 0
        if ranks.count == 1 and not checkpoint_layers and not self.policy.features.frozen:
            self._held_patches = int(HELD_BYTES / max(1.0, self.policy.tower_bytes_per_patch()))
        if checkpoint_layers:
            self.policy.checkpoint_layers()
        self._trainable = trainable(self.policy)
        self._masters = Masters([p for _, p in self._trainable])
        self._optimizer = build_optimizer(
            parameter_groups(self.policy, self._trainable, self._masters.values, settings), settings
        )
        self._passes = Passes(
            self.policy,
            tokens=micro_batch_tokens,
            pad_id=int(model.processor.tokenizer.pad_token_id),
            device=torch.device(device),
            ranks=ranks,
        )
        self._updates = 0

    @property
    def policy(self) -> Policy:
        """The module being trained; an engine in this process samples from the same one."""
        return self._model.policy

    @torch.no_grad()
    def outputs(
        self,
        groups: Sequence[RolloutGroup],
        *,
        entropy: bool = False,
        disagreement: bool = False,
        reference: bool = False,
    ) -> PolicyOutputs:
        if reference and isinstance(self._rule, AdapterOff):
            # What is held was encoded with the adapters, which may be the tower's too.
            with adapters_off(self.policy.model), other_features(self.policy):
                return self.outputs(groups, entropy=entropy, disagreement=disagreement)
        policy = self._reference if reference else self.policy
        if policy is None:
            raise RuntimeError("reference log-probabilities asked of a backend that was built without a reference")
        return self._passes.outputs(policy, policy, groups, entropy=entropy, disagreement=disagreement)

    def begin_step(self) -> None:
        self.policy.features.begin_step(held_patches=self._held_patches)

    def micro_batches(self, groups: Sequence[RolloutGroup]) -> list[list[Part]]:
        chosen = self._passes.split(groups)
        self._passes.begin(self.policy, chosen)
        return chosen

    def _finish_gradients(self) -> None:
        """Carry through the tower what several micro-batches owe it for a picture they share; add up all ranks'."""
        owed = self.policy.features.end_update()
        if owed is not None:
            owed.backward()
        self._masters.complete(self._ranks)

    def forward(
        self, parts: Sequence[Part], *, entropy: bool = False, learn_entropy: bool = False
    ) -> tuple[PolicyOutputs, PackedBatch]:
        packed = self._passes.pack(parts)
        return without_idle(self.policy(packed, entropy=entropy, learn_entropy=learn_entropy), packed), packed

    def backward(self, loss: Float[Tensor, ""]) -> None:
        loss.backward()

    def optimizer_step(self) -> tuple[float, float]:
        self._finish_gradients()
        norm = float(nn.utils.clip_grad_norm_(self._masters.values, self._settings.max_grad_norm))
        share = schedule(self._settings, self._updates)
        rate = self._settings.learning_rate * share
        if not math.isfinite(norm):
            self.discard_gradients()
            return norm, rate
        set_rates(self._optimizer.param_groups, share)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._masters.round()
        self._updates += 1
        if self._rule.copies:
            self._rule.after_update(self._updates, self._precise_policy(), self._copies)
            self._masters.round()  # a rule may move the policy
        return norm, rate

    def _precise_policy(self) -> list[Tensor]:
        """Every parameter of the policy, the masters in the place of those that have one."""
        masters = {id(p): m for (_, p), m in zip(self._trainable, self._masters.values, strict=True)}
        return [masters.get(id(p), p) for p in self.policy.parameters()]

    def add_up(self, share: Tensor) -> Tensor:
        return self._ranks.add_up(share)

    def most(self, values: Sequence[float]) -> list[float]:
        return self._ranks.most(values)

    def discard_gradients(self) -> None:
        self.policy.features.end_update()
        self._optimizer.zero_grad(set_to_none=True)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return merged_weights(self.policy.model)

    def save_model(self, folder: Path) -> None:
        if self._ranks.first:
            self._model.save(folder)

    def model_bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.policy.parameters())

    def snapshot(self) -> Callable[[Path], None] | None:
        weights = copied_weights(weights_to_save(self.policy.model))
        return lambda folder: self._model.save(folder, weights)

    def state(self) -> dict[str, Any]:
        names = [name for name, _ in self.policy.model.named_parameters()]
        return {
            "updates": self._updates,
            "moments": moments(self._optimizer, self._trainable, self._masters.values),
            "masters": self._masters.named([name for name, _ in self._trainable]),
            "adapters": adapter_state(self.policy.model),
            "copies": {
                copy_name: {name: value.detach() for name, value in zip(names, values, strict=True)}
                for copy_name, values in self._copies.items()
            },
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        load_adapter_state(self.policy.model, state.get("adapters", {}))
        self._masters.load([state["masters"].get(name) for name, _ in self._trainable])
        load_moments(self._optimizer, self._trainable, self._masters.values, state["moments"])
        self._updates = state["updates"]
        names = [name for name, _ in self.policy.model.named_parameters()]
        for copy_name, values in self._copies.items():
            for name, value in zip(names, values, strict=True):
                value.copy_(state["copies"][copy_name][name])


def _frozen(policy: Policy) -> Policy:
    return policy.requires_grad_(False).eval()
