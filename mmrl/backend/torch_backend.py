"""Plain torch in one process, on CPU or one GPU."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmrl.algorithms.reference import PRECISE, REFERENCE, AdapterOff, NoReference, Reference
from mmrl.backend.backend import OptimizerSettings
from mmrl.batch import PolicyOutputs, alone
from mmrl.errors import ConfigError
from mmrl.policy.adapters import (
    adapter_state,
    adapters_off,
    copied_weights,
    has_adapters,
    load_adapter_state,
    merged_weights,
    weights_to_save,
)
from mmrl.policy.cost import DecoderShape, pass_cost
from mmrl.policy.load import LoadedModel
from mmrl.policy.packed import PackedBatch, Part, micro_batches, pack, split_groups
from mmrl.policy.policy import Policy
from mmrl.types import RolloutGroup

NO_REFERENCE = NoReference()


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
    ) -> None:
        self._model = model
        self._settings = settings
        self._device = torch.device(device)
        self._micro_batch_tokens = micro_batch_tokens
        self._pad_id = int(model.processor.tokenizer.pad_token_id)
        self.policy.train()
        # Copied before freezing, so that freezing and training the policy never touch it.
        self._rule = reference
        if isinstance(reference, AdapterOff) and not has_adapters(self.policy.model):
            raise ConfigError("algorithm.reference: adapter_off needs adapters; give train.lora, or take frozen.")
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
        parts = self.policy.family.vision_parts(self.policy.model)
        for name in freeze:
            for module in parts[name]:
                module.requires_grad_(False)
        self._share_features()
        if checkpoint_layers:
            self.policy.checkpoint_layers()
        self._trainable = [p for p in self.policy.parameters() if p.requires_grad]
        if not self._trainable:
            raise ConfigError("train.freeze freezes every part of the model; leave at least one to train.")
        self._optimizer = torch.optim.AdamW(
            self._trainable,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
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
            with adapters_off(self.policy.model):
                return self.outputs(groups, entropy=entropy, disagreement=disagreement)
        policy = self._reference if reference else self.policy
        if policy is None:
            raise RuntimeError("reference log-probabilities asked of a backend that was built without a reference")
        width = max(len(r.token_ids) for g in groups for r in g.rollouts)
        count = sum(len(g.rollouts) for g in groups)
        logprobs = torch.zeros(count, width, device=self._device)
        entropies = torch.zeros(count, width, device=self._device) if entropy else None
        differ = torch.zeros(count, width, device=self._device) if disagreement else None
        sizes = torch.tensor([len(g.rollouts) for g in groups], device=self._device)
        group = torch.arange(len(groups), device=self._device).repeat_interleave(sizes)
        passes = self._whole(groups) if disagreement else self._cheapest(groups)
        policy.features.begin_pass(map(_digests, passes))
        for parts in passes:
            packed = self._pack(parts)
            out = policy(packed, entropy=entropy, compare=group[packed.rows] if disagreement else None)
            logprobs[packed.rows, : out.logprobs.shape[1]] = out.logprobs
            if entropies is not None:
                entropies[packed.rows, : out.logprobs.shape[1]] = out.entropy
            if differ is not None:
                differ[packed.rows, : out.logprobs.shape[1]] = out.disagreement
        policy.features.end_pass()
        return PolicyOutputs(logprobs=logprobs, entropy=entropies, disagreement=differ)

    def begin_step(self) -> None:
        self.policy.features.forget()

    def micro_batches(self, groups: Sequence[RolloutGroup]) -> list[list[Part]]:
        chosen = self._cheapest(groups)
        self.policy.features.begin_pass(map(_digests, chosen))
        return chosen

    def _cheapest(self, groups: Sequence[RolloutGroup]) -> list[list[Part]]:
        """Packed, or every completion with its own copy of the prompt: whichever the cost model prefers."""
        budget = self._micro_batch_tokens
        alone = micro_batches(split_groups(groups, budget, most_branches=1), budget)
        if not self.policy.family.packs:
            return alone
        together = micro_batches(split_groups(groups, budget), budget)
        kernel, shape = self.policy.kernel, DecoderShape.of(self.policy.config)
        return min(together, alone, key=lambda passes: pass_cost(passes, kernel, shape))

    def _whole(self, groups: Sequence[RolloutGroup]) -> list[list[Part]]:
        """For what compares a group's completions: every group in one micro-batch, however long its rows become."""
        if self.policy.family.packs:
            return micro_batches(split_groups(groups, sys.maxsize), self._micro_batch_tokens)
        parts = iter(split_groups(groups, sys.maxsize, most_branches=1))
        return [list(islice(parts, len(group.rollouts))) for group in groups]

    def _finish_gradients(self) -> None:
        """Carry through the tower what several micro-batches owe it for a picture they share."""
        owed = self.policy.features.end_pass()
        if owed is not None:
            owed.backward()

    def _share_features(self) -> None:
        """With a frozen tower its features are computed once, for the reference as well if its tower is the same."""
        self.policy.features.frozen = self.policy.vision_frozen
        if self._reference is not None and self.policy.vision_frozen:
            ours, theirs = (dict(policy.vision_parameters()) for policy in (self.policy, self._reference))
            if all(torch.equal(ours[name], theirs[name]) for name in ours):
                self._reference.features = self.policy.features

    def forward(
        self, parts: Sequence[Part], *, entropy: bool = False, learn_entropy: bool = False
    ) -> tuple[PolicyOutputs, PackedBatch]:
        packed = self._pack(parts)
        return self.policy(packed, entropy=entropy, learn_entropy=learn_entropy), packed

    def backward(self, loss: Float[Tensor, ""]) -> None:
        loss.backward()

    def optimizer_step(self) -> tuple[float, float]:
        self._finish_gradients()
        norm = float(nn.utils.clip_grad_norm_(self._trainable, self._settings.max_grad_norm))
        rate = self._settings.learning_rate * schedule(self._settings, self._updates)
        if not math.isfinite(norm):
            self.discard_gradients()
            return norm, rate
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._updates += 1
        self._rule.after_update(self._updates, list(self.policy.parameters()), self._copies)
        return norm, rate

    def add_up(self, share: Tensor) -> Tensor:
        return alone(share)

    def discard_gradients(self) -> None:
        self.policy.features.end_pass()
        self._optimizer.zero_grad(set_to_none=True)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return merged_weights(self.policy.model)

    def save_model(self, folder: Path) -> None:
        self._model.save(folder)

    def model_bytes(self) -> int:
        return sum(value.numel() * value.element_size() for value in self.policy.parameters())

    def snapshot(self) -> Callable[[Path], None] | None:
        weights = copied_weights(weights_to_save(self.policy.model))
        return lambda folder: self._model.save(folder, weights)

    def state(self) -> dict[str, Any]:
        return {
            "optimizer": self._optimizer.state_dict(),
            "updates": self._updates,
            "adapters": adapter_state(self.policy.model),
            "reference": None if self._reference is None else self._reference.model.state_dict(),
            "copies": {name: values for name, values in self._copies.items() if name != REFERENCE},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state["optimizer"])
        self._updates = state["updates"]
        load_adapter_state(self.policy.model, state.get("adapters", {}))
        if self._reference is not None:
            self._reference.model.load_state_dict(state["reference"])
        with torch.no_grad():
            for name, values in state["copies"].items():
                for mine, saved in zip(self._copies[name], values, strict=True):
                    mine.copy_(saved)

    def _pack(self, parts: Sequence[Part]) -> PackedBatch:
        return pack(parts, self.policy.family, self.policy.config, pad_id=self._pad_id).to(self._device)


def schedule(settings: OptimizerSettings, update: int) -> float:
    """The share of the learning rate that update number `update` (from 0) takes.

    Warm-up rises linearly, 1/w for the first of w updates; then constant, or down to `final_fraction` at `steps`.
    """
    if update < settings.warmup_steps:
        return (update + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    span = max(1, settings.steps - 1 - settings.warmup_steps)
    done = min(1.0, (update - settings.warmup_steps) / span)
    left = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.final_fraction + (1.0 - settings.final_fraction) * left


def _digests(parts: Sequence[Part]) -> list[str]:
    return [item.digest for part in parts if part.prompt.vision is not None for item in part.prompt.vision.items()]


def _frozen(policy: Policy) -> Policy:
    return policy.requires_grad_(False).eval()
